"""What the directory of a sweep says of itself, checked: so that runs in it can be listed without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import DamagedFile, NotARun
from .files import read_sealed

FILE = "sweep.json"
FORMAT = 1


def read_manifest(path: Path) -> dict[str, Any]:
    """The content of sweep.json in a directory, which takes no torch.

    Raises:
        NotARun: there is none.
        DamagedFile: it is not as it was written.
    """
    try:
        record = json.loads(read_sealed(path / FILE))
    except (FileNotFoundError, NotADirectoryError):
        remedy = "give the directory that `grokinterp sweep --out` made"
        raise NotARun(f"{path} holds no {FILE}: {remedy}") from None
    except ValueError as error:
        raise DamagedFile(f"{path / FILE}: {error}") from None
    if record.get("format") != FORMAT:
        what = f"{path / FILE} has format {record.get('format')}, and this grokinterp reads {FORMAT}"
        raise NotARun(f"{what}: use a version that reads it")
    return record
