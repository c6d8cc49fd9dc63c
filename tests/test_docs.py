"""The README keeps its promises: every command, preset and file that it names is there, and every command is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import grokinterp as gi
from grokinterp.cli import app
from grokinterp.measures.base import GAUGES
from grokinterp.training import PRESETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_command_is_in_the_readme():
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert commands == set(re.findall(r"grokinterp (train|analyze|list|verify|replay|import|compare|table)\b", README))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_in_the_readme(preset):
    assert f"`{preset}`" in README


@pytest.mark.parametrize("target", re.findall(r"`make ([\w-]+)`", README))
def test_every_make_target_that_the_readme_names_is_there(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_every_file_that_the_readme_links_is_there(path):
    assert (ROOT / path).exists()


def test_the_python_example_of_the_readme_runs(quick_run, monkeypatch, tmp_path):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gi, "train", lambda config, out: quick_run)
    monkeypatch.setattr(gi, "train_many", lambda configs, out: [quick_run for _ in configs])
    monkeypatch.setattr(gi, "load_run", lambda path: quick_run)
    exec(code, {})


def test_the_changelog_has_the_version():
    assert f"## {gi.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", list(gi.MEASURES))
def test_every_measure_says_what_it_is_in_what_unit_and_by_whom(name):
    known = gi.MEASURES[name]
    assert known.doc.endswith(".")
    assert known.unit
    assert len(known.ref) > 10


_GAUGES = {
    "rotation": "W_E, W_pos, W_O, W_out times a rotation, what reads them times its inverse",
    "heads": "W_V and W_O, or W_Q and W_K, times a matrix and its inverse",
    "order": "which neuron is the first",
    "scale": "of a rectified neuron: W_in times s, W_out by s",
    "shift": "W_U plus the same for every answer",
}


def page_of_measures() -> str:
    """docs/measures.md as the registry wants it; `python tests/test_docs.py` writes it."""
    lines = [
        "# Measures",
        "",
        "Everything that `gi.measure(name, view)` and `grokinterp analyze` know, as the code defines it: written from the registry, by",
        "`python tests/test_docs.py`. Where one word means several things in the literature, the variant is the last part of the name.",
        "",
        "c* is the right answer of an example. Key frequencies are the consensus of the `key_frequencies.*` rules unless they are given.",
        "The whole definition of each is in `gi.MEASURES[name].doc`.",
        "",
        "Some values change when the network is written down otherwise and does the same. Beside their unit stands on what they depend",
        "(`gi.MEASURES[name].gauge`, in the attributes of arrays):",
        "",
        *(f"- {words} ({_GAUGES[name]})" for name, words in GAUGES.items()),
        "",
        "All others are the same to rounding, the random controls of ablations included: what is drawn for a seed is drawn in an order",
        "and in directions that turn with the network. `gi.ablate` of single entries of a hook is of the basis that it is written in.",
        "Where layers are normalised, the stream cannot be rotated. Without a gauge: `position_similarity.z_rotated` for `.z`,",
        "`power.logits` and `logit_cosine` for what `power.W_L` and `power.neurons` say of neurons, `logit_fve.centred` for `.raw`.",
        "",
        "| measure | is | unit | source |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{m.name}` | {first_sentence(m.doc)} | {m.unit}{'; ' * bool(m.gauge)}{m.in_gauge} | {m.ref} |" for m in gi.MEASURES.values()
    ]
    return "\n".join(lines) + "\n"


def first_sentence(doc: str) -> str:
    return " ".join(doc.split("\n\n")[0].split()).replace("|", "&#124;")


def test_the_page_of_measures_is_that_of_the_registry():
    assert (ROOT / "docs/measures.md").read_text() == page_of_measures(), "run: python tests/test_docs.py"


if __name__ == "__main__":
    (ROOT / "docs/measures.md").write_text(page_of_measures())
