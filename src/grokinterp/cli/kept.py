"""What `analyze` said of a run the last time, where nothing that it depends on has changed since.

A file in the run directory, beside what was measured of its snapshots, holds what was printed, the hashes of
the files that were written, and what all of it was made from: the records of the run, the analysed snapshot,
what was asked, the source of the package and the versions of what it computes with. Where this is as it was,
nothing is computed, and torch is not even imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import GrokinterpError
from ..runs.files import UNSEALED, read_sealed, replace, sealed

_PACKAGE = Path(__file__).parents[1]
_RECORDS = ("run.json", "manifest.jsonl", "metrics.jsonl")
_COMPUTES = ("torch", "numpy", "pandas", "xarray", "plotly", "scikit-learn")
_OURS = ("report", "replay")
"""What the names of files begin with that analyses write."""


class LastTime:
    """One question to one run, and what was said to it the last time.

    Args:
        run: the run directory.
        asked: what was asked: plain values.
    """

    def __init__(self, run: Path, asked: Mapping[str, Any]) -> None:
        self._run, self._asked = run, json.loads(json.dumps(asked))
        question = hashlib.sha256(json.dumps(self._asked, sort_keys=True).encode()).hexdigest()
        self._path = run / "replay" / f"said_{question[:16]}.json"

    def said(self) -> dict[str, Any] | None:
        """What was said; None where nothing is kept, or something has changed."""
        try:
            kept = json.loads(read_sealed(self._path))
            files = {name: _sha256(Path(name)) for name in kept["files"]}
            same = kept["made_from"] == self._made_from() and kept["files"] == files
        except (OSError, GrokinterpError, ValueError, KeyError):
            return None
        said: dict[str, Any] = kept["said"]
        return said if same else None

    def keep(self, said: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Keeps what was said, where the run directory can be written.

        Args:
            said: plain values.
            files: those that were written, and the snapshot: they must stay as they are.
        """
        with suppress(OSError, GrokinterpError):
            hashes = {str(file.resolve()): _sha256(file) for file in files}
            kept = {"seal": UNSEALED, "made_from": self._made_from(), "files": hashes, "said": said}
            replace(self._path, sealed(json.dumps(kept).encode()), make_folder=True, durable=False)

    def _made_from(self) -> dict[str, Any]:
        run = self._run
        return {
            "asked": self._asked,
            "name": run.resolve().name,  # which stands on the page
            "records": {name: _sha256(run / name) for name in _RECORDS if (run / name).exists()},
            # Whether it is being trained shows in which files there are.
            "there": sorted(file.name for file in run.iterdir() if not file.name.startswith(_OURS)),
            "replay": (run / "replay.html").is_file(),  # whether the page can link to it
            "package": _source(),
            "versions": {name: version(name) for name in _COMPUTES},
        }


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _source() -> str:
    """The sha256 of the package: of code, templates, scripts and styles."""
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*")):
        if file.is_file() and file.suffix != ".pyc":
            digest.update(f"{file.relative_to(_PACKAGE)}\0".encode() + file.read_bytes())
    return digest.hexdigest()
