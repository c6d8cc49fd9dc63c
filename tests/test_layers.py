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
    "version", "lazy", "errors", "usual", "asked", "shown", "registry", "memory", "progress", "frozen",
    "fourier", "geometry", "tasks", "standing", "foreign", "models", "view", "controls", "measures",
    "training", "runs", "sweeps", "given", "importing", "replay", "report", "extending", "cli",
]  # fmt: skip
"""A file may import from its own layer and from those before it."""

FAMILIES = {
    "measures": ["waves", "groups", "matrices"],
    "replay": ["frequencies"],
    "report": ["digits", "matrices", "operations"],
}
"""Folders of what is about one kind of task. What is flat beside them is general and imports none of them,
nor does one family import another."""
CROSSINGS = {
    # Of a cyclic group the elements are those on its circle, and representation k is frequency k.
    ("measures/groups/irreps.py", "measures.waves.circular"),
    # What a replay shows as pictures.
    ("replay/dataset.py", "replay.frequencies.pictures"),
    # What registers itself.
    ("replay/__init__.py", "replay.frequencies.final"),
    ("report/__init__.py", "report.digits"),
    ("report/__init__.py", "report.matrices"),
    ("report/__init__.py", "report.operations"),
    ("report/__init__.py", "report.operations.sections"),
    # Names for users.
    *(("measures/__init__.py", f"measures.waves.{name}") for name in ("circular", "keys", "sufficiency")),
    *(
        ("replay/__init__.py", f"replay.frequencies.{name}")
        for name in ("flows", "keys", "lives", "pictures")
    ),
}
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
MODULES = {".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in FILES}


def layer_of(file: Path) -> str:
    return file.parts[0].removesuffix(".py")


def imported_by(file: Path, text: str | None = None) -> set[str]:
    """What a file imports of the package, wherever in the file the import stands: modules, without the
    package's name, and `.NAME` for what is no module but a name of the package root."""
    modules = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text() if text is None else text)):
        if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0):
            by_name = [getattr(node, "module", None), *(alias.name for alias in node.names)]
            modules |= {f".{name}" for name in by_name if name and name.split(".")[0] == "grokinterp"}
        elif isinstance(node, ast.ImportFrom):
            folder = file.parts[: len(file.parts) - node.level]
            base = ".".join([*folder, *([node.module] if node.module else [])])
            names = {f"{base}.{alias.name}".removeprefix(".") for alias in node.names}
            modules |= names & MODULES or {base or f".{node.names[0].name}"}
    return modules


def family_of(module: str) -> tuple[str, str] | None:
    layer, _, rest = module.partition(".")
    family = rest.split(".")[0]
    return (layer, family) if family in FAMILIES.get(layer, []) else None


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("import grokinterp", {".grokinterp"}),
        ("import grokinterp.errors as e", {".grokinterp.errors"}),
        ("def f():\n    from grokinterp import view", {".grokinterp"}),
        ("from .. import __name__ as package", {".__name__"}),
        ("from .. import fourier, view", {"fourier", "view"}),
        ("from ..runs.files import replace", {"runs.files"}),
        ("from .figures import replace\nimport numpy", {"report.figures"}),
    ],
)
def test_an_import_is_seen_whatever_its_form(text, modules):
    assert imported_by(Path("report/page.py"), text) == modules


@pytest.mark.parametrize("file", [f for f in FILES if f.name != "__init__.py" or len(f.parts) > 1], ids=str)
def test_imports_point_upwards_only(file):
    allowed = LAYERS[: LAYERS.index(layer_of(file)) + 1]
    layers = {module.split(".")[0] for module in imported_by(file) if not module.startswith(".")}
    assert layers <= set(allowed)


@pytest.mark.parametrize("file", [f for f in FILES if layer_of(f) in FAMILIES], ids=str)
def test_what_is_general_knows_no_family_and_no_family_another(file):
    family = family_of(".".join(file.with_suffix("").parts))
    others = {module for module in imported_by(file) if family_of(module) not in (None, family)}
    others = {module for module in others if module.split(".")[0] == layer_of(file)}
    assert {(file.as_posix(), module) for module in others} <= CROSSINGS


def test_each_crossing_of_families_is_one():
    assert all(module in imported_by(Path(file)) for file, module in CROSSINGS)


@pytest.mark.parametrize("file", [f for f in FILES if len(f.parts) > 1 or f.name != "__init__.py"], ids=str)
def test_nothing_inside_imports_the_package_root(file):
    names = {module for module in imported_by(file) if module.startswith(".")}
    assert not names


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


def test_a_list_of_runs_imports_no_torch():
    loaded = modules_after("from grokinterp.runs.listing import listed")
    assert "grokinterp.runs.listing" in loaded
    assert not loaded & {"torch", "transformer_lens", "pandas", "xarray", "plotly", "numpy"}


def test_training_does_not_import_transformer_lens():
    assert "transformer_lens" not in modules_after(
        "import grokinterp.runs; from grokinterp.training import Trainer"
    )


def test_the_public_names_are_few_and_all_there():
    assert len(grokinterp.__all__) <= 36
    assert all(getattr(grokinterp, name) is not None for name in grokinterp.__all__)


def test_shape_checks_are_active_in_tests():
    import torch

    from grokinterp.measures.sparsity import gini

    with pytest.raises(Exception, match="violates type hint"):
        gini(torch.zeros(3, 3, dtype=torch.float64))
