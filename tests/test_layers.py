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
    "version", "errors", "registry", "memory", "progress", "frozen", "fourier", "tasks", "foreign", "models",
    "view", "controls", "measures", "training", "runs", "importing", "replay", "report", "cli",
]  # fmt: skip
"""A file may import from its own layer and from those before it."""

FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def layer_of(file: Path) -> str:
    return file.parts[0].removesuffix(".py")


def imported_layers(file: Path, text: str | None = None) -> set[str]:
    """The layers that a file imports from, wherever in the file the import stands; "the package root" where
    it imports from there, or by the name of the package."""
    depth = len(file.parts)
    layers = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text() if text is None else text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "grokinterp"]
        elif isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module] if node.module.split(".")[0] == "grokinterp" else []
        else:
            names = []
        firsts = {name.split(".")[0] for name in names}
        layers |= firsts & set(LAYERS) | ({"the package root"} if firsts - set(LAYERS) else set())
    return layers


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("import grokinterp", {"the package root"}),
        ("import grokinterp.errors as e", {"the package root"}),
        ("def f():\n    from grokinterp import view", {"the package root"}),
        ("from .. import __name__ as package", {"the package root"}),
        ("from .. import fourier, view", {"fourier", "view"}),
        ("from ..runs.files import replace", {"runs"}),
        ("from .files import replace\nimport numpy", set()),
    ],
)
def test_an_import_is_seen_whatever_its_form(text, layers):
    assert imported_layers(Path("report/page.py"), text) == layers


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
