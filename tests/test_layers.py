"""Imports point one way, and the heavy ones wait until they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import grokinterp

ROOT = Path(grokinterp.__file__).parent
LAYERS = [
    "errors", "memory", "frozen", "fourier", "tasks", "foreign", "models", "view", "controls", "measures",
    "training", "runs",
    "importing", "replay", "report", "cli",
]  # fmt: skip
"""A file may import from its own layer and from those before it."""

FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def layer_of(file: Path) -> str:
    return file.parts[0].removesuffix(".py")


def imported_layers(file: Path) -> set[str]:
    """The layers that a file imports from, wherever in the file the import stands."""
    depth = len(file.parts)
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            assert not node.module.startswith("grokinterp"), f"{file} imports the package by name"
    return found & set(LAYERS)


@pytest.mark.parametrize("file", [f for f in FILES if f.name != "__init__.py" or len(f.parts) > 1], ids=str)
def test_imports_point_upwards_only(file):
    allowed = LAYERS[: LAYERS.index(layer_of(file)) + 1]
    assert imported_layers(file) <= set(allowed)


def test_every_file_has_a_layer():
    assert {layer_of(file) for file in FILES} == {*LAYERS, "__init__"}


@pytest.mark.parametrize("file", [f for f in FILES if layer_of(f) != "models"], ids=str)
def test_only_models_imports_transformer_lens(file):
    assert "import transformer_lens" not in (text := (ROOT / file).read_text())
    assert "from transformer_lens" not in text


@pytest.mark.parametrize("file", [f for f in FILES if layer_of(f) != "models"], ids=str)
def test_nothing_asks_which_kind_a_network_is(file):
    """A question to its class takes the place of isinstance."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            assert not {"ModelConfig", "MLPConfig"} & {
                name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)
            }


@pytest.mark.parametrize("file", [f for f in FILES if layer_of(f) == "models"], ids=str)
def test_a_network_knows_what_it_reads_of_a_task_and_not_the_task(file):
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tasks"):
            assert [alias.name for alias in node.names] == ["Reads"]


@pytest.mark.parametrize(
    "file",
    [f for f in FILES if layer_of(f) not in ("runs", "importing", "foreign", "cli", "report")],
    ids=str,
)
def test_disk_access_is_kept_to_the_edge(file):
    calls = {
        node.func.id
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    # free_memory reads /proc/meminfo, which is no file of anybody's.
    assert "open" not in calls or file == Path("memory.py")


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_help_imports_neither_torch_nor_transformer_lens():
    code = (
        "import sys; sys.argv = ['grokinterp', '--help']\ntry:\n    from grokinterp.cli import main; "
        "main()\nexcept SystemExit: pass"
    )
    loaded = modules_after(code)
    assert "grokinterp.cli" in loaded
    assert not loaded & {"torch", "transformer_lens", "pandas", "xarray", "plotly", "numpy"}


def test_training_does_not_import_transformer_lens():
    assert "transformer_lens" not in modules_after(
        "import grokinterp.runs; from grokinterp.training import Trainer"
    )


def test_the_public_names_are_few_and_all_there():
    assert len(grokinterp.__all__) <= 25
    assert all(getattr(grokinterp, name) is not None for name in grokinterp.__all__)


def test_shape_checks_are_active_in_tests():
    import torch

    from grokinterp.measures.embedding import gini

    with pytest.raises(Exception, match="Type-check error"):
        gini(torch.zeros(3, 3, dtype=torch.float64))
