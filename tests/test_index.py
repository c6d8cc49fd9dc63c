"""The index of names that lists and completion read: it is that of the registries, and needs nothing heavy.

`python tests/test_index.py` writes it again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import grokinterp as gi
from grokinterp.cli import index
from grokinterp.training import PRESETS, TrainConfig

HEAVY = ("torch", "numpy", "xarray", "pandas", "plotly", "transformer_lens", "scipy", "jaxtyping")

COMPLETE = {"_GROKINTERP_COMPLETE": "complete_bash"}


def test_the_index_is_that_of_the_registries():
    assert index.FILE.read_text() == index.text_of(index.gathered()), "run: python tests/test_index.py"


@pytest.mark.parametrize("name", PRESETS)
def test_the_configuration_that_is_listed_of_a_preset_is_the_preset(grokinterp, tmp_path, name):
    code, stdout, _ = grokinterp("list", "presets", name)
    assert code == 0
    assert TrainConfig.from_toml(stdout) == TrainConfig.preset(name)
    told = json.loads(grokinterp("list", "presets", name, "--json")[1])
    assert TrainConfig.make(told) == TrainConfig.preset(name)
    # As `train --config` takes it, which sets the name of the task on top.
    file = tmp_path / "config.toml"
    file.write_text(stdout)
    code, stdout, _ = grokinterp("train", told["task"]["name"], "--config", file, "--dry-run", "--json")
    assert code == 0
    assert TrainConfig.make(json.loads(stdout)["config"]) == TrainConfig.preset(name)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["list", "measures"], {}),
        (["list", "measures", "restricted", "--json"], {}),
        (["list", "presets", "quick"], {}),
        (["list", "tasks"], {}),
        (["--help"], {}),
        *([[command, "--help"], {}] for command in ("train", "analyze", "replay", "list", "import")),
        ([], {**COMPLETE, "COMP_WORDS": "grokinterp analyze --measure gini", "COMP_CWORD": "3"}),
        ([], {**COMPLETE, "COMP_WORDS": "grokinterp analyze ", "COMP_CWORD": "2"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "".join(value.values())[:60],
)  # fmt: skip
def test_lists_help_and_completion_import_nothing_heavy(arguments, environment):
    code = (
        "import sys\nsys.argv = ['grokinterp', *sys.argv[1:]]\nfrom grokinterp.cli import main\n"
        "try: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, **environment}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    loaded = done.stderr.split()
    assert "grokinterp.cli" in loaded
    assert done.returncode == 0
    assert not set(HEAVY) & set(loaded)


def completed(words: str, folder: Path) -> list[str]:
    """What a shell offers for the last of these words."""
    code = "import sys\nsys.argv = ['grokinterp']\nfrom grokinterp.cli import main\nmain()"
    count = len(words.split(" ")) - 1
    environment = {**COMPLETE, "COMP_WORDS": words, "COMP_CWORD": str(count)}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True,
        check=True, cwd=folder,
    )  # fmt: skip
    return done.stdout.split()


def test_names_and_run_directories_are_completed(tmp_path):
    (tmp_path / "other").mkdir()
    for run in ("runs/add", "runs/sweep/seed_0", "runs/sweep/seed_1", "runs/.hidden"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "run.json").write_text("{}")
    offered = {
        "grokinterp tr": ["train"],
        "grokinterp train modular_d": ["modular_division"],
        "grokinterp train modular_addition --preset gro": ["grokking_demo"],
        "grokinterp analyze runs/a --measure gini.W_E": ["gini.W_E", "gini.W_E.power"],
        "grokinterp import x.pth --layout na": ["nanda"],
        "grokinterp list p": ["presets"],
        "grokinterp list presets qu": ["quick"],
        "grokinterp list layouts zho": [],
        "grokinterp analyze ": ["runs/add", "runs/sweep/seed_0", "runs/sweep/seed_1"],
        "grokinterp replay runs/s": ["runs/sweep/seed_0", "runs/sweep/seed_1"],
        "grokinterp compare runs/add runs/sweep/seed_1": ["runs/sweep/seed_1"],
        f"grokinterp verify {tmp_path}/runs/a": [f"{tmp_path}/runs/add"],
    }
    for words, expected in offered.items():
        assert completed(words, tmp_path) == expected, words


def test_the_script_of_a_shell_is_shown_and_can_be_installed(tmp_path):
    code = "import sys\nsys.argv = ['grokinterp', *sys.argv[1:]]\nfrom grokinterp.cli import main\nmain()"
    for flag, says in (("--show-completion", "_GROKINTERP_COMPLETE"), ("--install-completion", "installed")):
        done = subprocess.run(
            [sys.executable, "-c", code, flag, "bash"], capture_output=True, text=True, check=False,
            env={**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        )  # fmt: skip
        assert says in done.stdout + done.stderr
        assert done.returncode == 0
    assert any("grokinterp" in file.read_text() for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.parametrize("kind", index.KINDS)
def test_a_word_searches_names_and_definitions(grokinterp, kind):
    rows = json.loads(grokinterp("list", kind, "--json")[1])
    assert [next(iter(row.values())) for row in rows] == index.names(kind)
    word = {"tasks": "DIVISION", "presets": "neurons", "measures": "Gini", "layouts": "mod"}[kind]
    found = json.loads(grokinterp("list", kind, word, "--json")[1])
    assert found
    assert all(word.lower() in " ".join(row.values()).lower() for row in found)
    assert [row for row in rows if word.lower() in " ".join(row.values()).lower()] == found


def test_a_word_that_finds_nothing_is_an_error_that_names_the_nearest(grokinterp):
    for kind, word, near in (
        ("measures", "ginni", "gini."),
        ("tasks", "subtration", "subtraction"),
        ("presets", "quik", "quick"),
    ):
        code, stdout, stderr = grokinterp("list", kind, word)
        assert (code, stdout, stderr.count("\n")) == (2, "", 1)
        assert near in stderr
        assert repr(word) in stderr


class Terminal:
    """What a terminal of some width would show."""

    def __init__(self, monkeypatch, width: int) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("FORCE_COLOR", "1")  # by which rich takes a pipe for a terminal
        monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize("width", [None, 30, 60, 80, 140])
def test_a_name_is_never_broken(grokinterp, monkeypatch, width):
    if width is not None:
        Terminal(monkeypatch, width)
    code, stdout, _ = grokinterp("list", "measures")
    assert code == 0
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in stdout.splitlines()]
    firsts = {line.split(" ")[0] for line in lines}
    assert set(gi.MEASURES) <= firsts
    if width is None:  # a row is a line, so that grep finds all of it
        assert len(lines) == 1 + len(gi.MEASURES)
    else:
        words = {word for row in index.index()["measures"] for text in row.values() for word in text.split()}
        assert max(map(len, lines)) <= max(width, 4 + max(map(len, words)))


if __name__ == "__main__":
    index.FILE.write_text(index.text_of(index.gathered()))
