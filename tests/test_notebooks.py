"""The notebooks in docs/notebooks run from an empty folder, and show what they put out when last run.

`python tests/test_notebooks.py` runs all of them and stores their outputs: what goes to stdout or is the
value of a cell, never warnings, times or paths of the machine.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
PLACES = re.compile(r"(?<![\w:/.])/(?:home|root|tmp|work|usr|var|Users)/|0x[0-9a-f]{6,}|\b\d+ ?m?s\b")
"""What is of one machine or of one moment."""


def executed(path: Path, folder: str | Path) -> nbformat.NotebookNode:
    """A notebook with the outputs that it has when it is run in a folder."""
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def code_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_every_cell_that_shows_something_still_does(path, tmp_path):
    stored, run = nbformat.read(path, as_version=4), executed(path, tmp_path)
    shows = [[bool(cell.outputs) for cell in code_of(tidied(notebook))] for notebook in (stored, run)]
    assert shows[0] == shows[1]
    assert any(shows[0])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_of_no_machine(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook == tidied(notebook), "run: python tests/test_notebooks.py"
    for cell in code_of(notebook):
        for output in cell.outputs:
            assert not PLACES.search(str(output.get("text", output.get("data")))), cell.source


@pytest.mark.parametrize("words", ["in /home/me/runs", "at 0x7f3a2b4c", "took 12 ms", "in 3 s"])
def test_a_place_or_a_time_is_seen(words):
    assert PLACES.search(words)


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy as it is stored: no warnings, pieces of one text as one, nothing about the kernel."""
    kept = nbformat.from_dict(notebook)
    kept.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(code_of(kept), 1):
        said = "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")
        values = [o for o in cell.outputs if o.output_type != "stream"]
        cell.metadata, cell.execution_count = {}, number
        for value in values:
            if "execution_count" in value:
                value.execution_count = number
        cell.outputs = [nbformat.v4.new_output("stream", text=said)] * bool(said) + values
    return kept


if __name__ == "__main__":
    for path in NOTEBOOKS if len(sys.argv) == 1 else map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(tidied(executed(path, folder)), path)
