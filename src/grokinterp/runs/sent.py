"""Run directories that are sent from one machine to another, where these have no filesystem in common."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .files import sync_folder, writing


def packed(folder: Path) -> dict[str, bytes]:
    """Every file of a run directory, by its path in there."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "lock")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def put(files: Mapping[str, bytes], path: Path) -> None:
    """Makes a run directory of what was sent, whole or not at all; one that is there is replaced."""
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with writing(path):
            for name, data in files.items():
                place = beside / "run" / name
                place.parent.mkdir(parents=True, exist_ok=True)
                with open(place, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            if path.exists():
                os.replace(path, beside / "before")
            os.replace(beside / "run", path)
            sync_folder(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
