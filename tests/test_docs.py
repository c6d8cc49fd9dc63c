"""README and docs keep their promises: every block in them runs, in order and in one folder; every command,
preset and file that they name is there.

What stands after the language of a block says how it is tested:

    ```sh           here, each command in this process; ```python likewise, in one namespace
    ```toml         begins with "# NAME.toml" and is saved
    ```sh long      only in the slow test, which pastes everything as it stands
    ```sh setup     not at all: it makes the environment in which tests run
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import grokinterp as gi
from conftest import tiny
from grokinterp.cli import app
from grokinterp.measures.base import GAUGES
from grokinterp.replay import phases
from grokinterp.replay.steps_to_learn import reached
from grokinterp.training import DEFAULTS, PRESETS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [
    "README.md",
    "docs/start.md", "docs/concepts.md", "docs/how-to.md", "docs/tasks.md", "docs/import.md",
    "docs/extending.md", "docs/measures.md", "docs/reference.md", "docs/papers.md",
]  # fmt: skip
"""In the order in which they are read: what a later one uses, an earlier one has made."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        place: the page and the line at which it begins.
        language, how: the words after the fence; "" where there is none.
        text: what is in it.
    """

    place: str
    language: str
    how: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, of which a long one may go on after a backslash."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def blocks_of(page: str, text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    fences = re.finditer(r"^```(\w*) ?(.*)\n((?s:.*?))^```$", text, re.MULTILINE)
    return [
        Block(f"{page}:{text[: fence.start()].count(chr(10)) + 1}", fence[1], fence[2], fence[3])
        for fence in fences
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page, (ROOT / page).read_text())]


def test_blocks_are_found_with_their_commands():
    text = "# A\n```sh long\na 1 \\\n  2   # why\n\n# nothing\nb\n```\nwords\n```python\nx = 1\n```\n"
    found = blocks_of("page.md", text)
    assert [(block.place, block.language, block.how) for block in found] == [
        ("page.md:2", "sh", "long"),
        ("page.md:10", "python", ""),
    ]
    assert [shlex.split(command, comments=True) for command in found[0].commands] == [["a", "1", "2"], ["b"]]


def test_every_page_is_read_and_every_block_is_of_a_kind_that_is_tested():
    assert sorted(PAGES) == sorted(
        ["README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
    )
    assert sum((ROOT / page).read_text().count("```") for page in PAGES) == 2 * len(BLOCKS)
    kinds = {(block.language, block.how) for block in BLOCKS}
    assert kinds <= {
        ("sh", ""),
        ("sh", "long"),
        ("sh", "setup"),
        ("python", ""),
        ("python", "long"),
        ("python", "file"),
        ("toml", ""),
        ("", ""),
    }
    for block in BLOCKS:
        if block.language == "":  # a listing of files
            assert "grokinterp/\n" in block.text, block.place
        if block.language == "sh" and block.how != "setup":
            assert all(command.startswith("grokinterp ") for command in block.commands), block.place


def save(block: Block) -> None:
    """Writes a file that a page shows, under the name in its first line."""
    name = re.match(r"# (\w+\.(toml|py))\n", block.text)
    assert name, f"{block.place}: begins with no '# NAME.toml' or '# NAME.py'"
    Path(name[1]).write_text(block.text)


@pytest.fixture
def namespace():
    """What the blocks of the pages share, as in a session; what they register is forgotten after it."""
    registries = [gi.MEASURES, gi.TASKS]
    known = [dict(registry) for registry in registries]
    yield {"__name__": "__main__"}
    for registry, before in zip(registries, known, strict=True):
        for name in registry.keys() - before.keys():
            del registry[name]


# A network that a page builds by itself says so; what grokinterp builds does not (test_models).
@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")
def test_every_block_runs_in_order_in_one_folder(grokinterp, monkeypatch, namespace, tmp_path):
    monkeypatch.chdir(tmp_path)
    done: set[tuple[str, ...]] = set()
    for block in BLOCKS:
        if block.how:
            continue
        if block.language == "sh":
            for command in block.commands:
                arguments = tuple(shlex.split(command, comments=True)[1:])
                if arguments not in done:  # pages begin where others began, too
                    code, stdout, stderr = grokinterp(*arguments)
                    assert code == 0, f"{block.place}: {command}\n{stdout}{stderr}"
                    done.add(arguments)
        elif block.language == "python":
            exec(compile(block.text, block.place, "exec"), namespace)
        elif block.language == "toml":
            save(block)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")
def test_every_block_runs_pasted_into_a_shell_and_what_is_promised_comes_out(
    monkeypatch, namespace, tmp_path
):
    """Prints the wall and CPU seconds of every command: pytest -m slow -s tests/test_docs.py."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    told = []
    for block in BLOCKS:
        if block.language == "toml" or block.how == "file":  # tests/test_extending.py runs these
            save(block)
        elif block.language == "python":
            cpu, start = time.process_time(), time.perf_counter()
            exec(compile(block.text, block.place, "exec"), namespace)
            told.append(
                f"{time.perf_counter() - start:6.1f}  {time.process_time() - cpu:6.1f}  {block.place}"
            )
        elif block.language == "sh" and block.how != "setup":
            told += [pasted(command, block.place) for command in block.commands]
    print("\n".join(["", "wall s   CPU s", *told]))
    assert broken_promises() == []


def pasted(command: str, place: str) -> str:
    """Runs a command in a shell; the seconds that it took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    assert done.returncode == 0, f"{place}: {command}\n{done.stdout}{done.stderr}"
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{wall:6.1f}  {cpu:6.1f}  {command.partition('  #')[0]}"


PROMISE = re.compile(r"--out (\S+)\s.*# (99 %|stops).*? after ([\d,]+) to ([\d,]+) steps")
"""Of a command: the directory of its run, what is promised of it, and the bounds."""


def commands_of(language: str) -> list[str]:
    return [command for block in BLOCKS if block.language == language for command in block.commands]


def broken_promises() -> list[str]:
    """The runs in this folder that came to another number of steps than the page says."""
    broken = []
    for promise in filter(None, map(PROMISE.search, commands_of("sh"))):
        run = gi.load_run(promise[1])
        steps = run.steps[-1] if promise[2] == "stops" else reached(run.history, "test").by
        low, high = (int(bound.replace(",", "")) for bound in promise.groups()[2:])
        if steps is None or not low <= steps <= high:
            broken.append(f"{promise[1]}: {promise[2]} after {steps} steps, not {low} to {high}")
    return broken


def test_the_promises_of_the_readme_are_found_and_a_broken_one_is_named(monkeypatch, tmp_path):
    promised = {promise[1]: promise[2] for promise in filter(None, map(PROMISE.search, commands_of("sh")))}
    assert promised == {"runs/add53": "99 %", "runs/sub97": "99 %", "runs/mech": "stops"}
    monkeypatch.chdir(tmp_path)
    for place in promised:
        gi.train(tiny(), place, progress=False)
    assert [line.partition(":")[0] for line in broken_promises()] == list(promised)


@pytest.mark.slow
def test_the_phases_in_the_readme_are_those_of_the_run_that_ships(tmp_path):
    shutil.copytree(ROOT / "checkpoints" / "modular_addition_113", tmp_path / "run")
    run = gi.load_run(tmp_path / "run")
    found = phases(gi.replay(run, progress=False), run.history).boundaries
    rows = [split_row(line) for line in README.splitlines() if re.search(r"\| [\d,]+–[\d,]+ \|$", line)]
    assert [(row[1].partition(" (")[0], row[2]) for row in rows] == [
        (b.name, f"{b.after:,}–{b.by:,}") for b in found
    ]


def test_every_command_is_in_the_readme():
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    named = set(re.findall(r"^grokinterp ([a-z]+)\b", README, re.MULTILINE))
    assert commands == named | {"import"}
    assert "`grokinterp import`" in README


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_in_the_readme(preset):
    assert f"`{preset}`" in README


@pytest.mark.parametrize("target", re.findall(r"`make ([\w-]+)`", README))
def test_every_make_target_that_the_readme_names_is_there(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "path"),
    [
        (page, path)
        for page in PAGES
        for path in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", (ROOT / page).read_text())
    ],
)
def test_every_file_that_a_page_links_is_there(page, path):
    assert ((ROOT / page).parent / path).exists()


def names_of(code: str) -> set[str]:
    """The public names that code takes from `gi`."""
    return {
        node.attr
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gi"
    }


def examples() -> dict[str, str]:
    """The page with the first example of each public name that a test runs."""
    found: dict[str, str] = {}
    for block in BLOCKS:
        if block.language == "python" and block.how != "long":
            for name in names_of(block.text):
                found.setdefault(name, block.place.partition(":")[0])
    return found


def test_every_public_name_has_an_example_that_is_run():
    assert set(gi.__all__) - examples().keys() == set(), "write one in docs/how-to.md"


def test_an_example_is_what_is_called_on_gi():
    assert names_of("run = gi.train(c)\ngi.MEASURES['a'].ref\nother.replay(run)") == {"train", "MEASURES"}


def test_every_task_has_a_row_in_the_page_of_tasks_that_says_its_recipe():
    rows = {
        cells[1]: cells[2:]
        for cells in map(split_row, (ROOT / "docs/tasks.md").read_text().splitlines())
        if len(cells) > 4
    }
    assert rows.keys() - {"task", "---"} == DEFAULTS.keys()
    for name, default in DEFAULTS.items():
        assert rows[name][:2] == [
            default.preset,
            ", ".join(f"{key}={value}" for key, value in default.changes.items()),
        ]
        assert default.unlearned is None or rows[name][3] == default.unlearned


def split_row(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in line.split("|")]


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
        "Everything that `gi.measure(name, view)` and `grokinterp analyze` know, as the code defines it: "
        "written from the registry, by",
        "`python tests/test_docs.py`. Where one word means several things in the literature, the variant is "
        "the last part of the name.",
        "",
        "c* is the right answer of an example. Key frequencies are the consensus of the `key_frequencies.*` "
        "rules unless they are given.",
        "The whole definition of each is in `gi.MEASURES[name].doc`.",
        "",
        "Some values change when the network is written down otherwise and does the same. Beside their unit "
        "stands on what they depend",
        "(`gi.MEASURES[name].gauge`, in the attributes of arrays):",
        "",
        *(f"- {words} ({_GAUGES[name]})" for name, words in GAUGES.items()),
        "",
        "All others are the same to rounding, the random controls of ablations included: what is drawn for "
        "a seed is drawn in an order",
        "and in directions that turn with the network. `gi.ablate` of single entries of a hook is of the "
        "basis that it is written in.",
        "Where layers are normalised, the stream cannot be rotated. Without a gauge: "
        "`position_similarity.z_rotated` for `.z`,",
        "`power.logits` and `logit_cosine` for what `power.W_L` and `power.neurons` say of neurons, "
        "`logit_fve.centred` for `.raw`.",
        "",
        "| measure | is | unit | source |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{m.name}` | {first_sentence(m.doc)} | {m.unit}{'; ' * bool(m.gauge)}{m.in_gauge} | {m.ref} |"
        for m in gi.MEASURES.values()
    ]
    return "\n".join(lines) + "\n"


def first_sentence(doc: str) -> str:
    return " ".join(doc.split("\n\n")[0].split()).replace("|", "&#124;")


def test_the_page_of_measures_is_that_of_the_registry():
    assert (ROOT / "docs/measures.md").read_text() == page_of_measures(), "run: python tests/test_docs.py"


REFERENCE = {
    "Runs": "TrainConfig train train_many sweep load_sweep load_run runs_in show Run record "
    "import_checkpoint export",
    "What a network does": "view View measure measure_all register_measure MEASURES key_frequencies ablate "
    "interchange",
    "Over training": "replay tidy save_replay plateaus compare",
    "Reports": "analyze Report",
    "Tasks": "make_task task TASKS Task Operation arrays",
    "Errors and version": "GrokinterpError __version__",
}
"""The public names in the order of docs/reference.md."""

VALUES = {
    "MEASURES": "All measures by name; a name that is not there is answered by the nearest.",
    "TASKS": "All tasks by name, as functions that make them.",
    "__version__": "The version, as text.",
}
"""What the names are that have no docstring."""


def page_of_reference() -> str:
    """docs/reference.md as the package wants it; `python tests/test_docs.py` writes it."""
    where = examples()
    lines = [
        "# Reference",
        "",
        "The public names of `import grokinterp as gi`, and a page with an example of each that is run by "
        "the tests; written by",
        "`python tests/test_docs.py`. What own tasks, networks, measures, claims and panels are made with is "
        "in `grokinterp.extending`",
        "([extending.md](extending.md)). On the site the docstrings follow each table; elsewhere "
        "`help(gi.NAME)` shows them.",
    ]
    for title, names in REFERENCE.items():
        lines += ["", f"## {title}", "", "| name | is | example |", "|---|---|---|"]
        for name in names.split():
            page = where[name]
            link = page.removeprefix("docs/") if page.startswith("docs/") else f"../{page}"
            said = VALUES.get(name) or first_sentence(inspect.getdoc(getattr(gi, name)) or "")
            lines.append(f"| `gi.{name}` | {said} | [{link.rpartition('/')[2]}]({link}) |")
    return "\n".join(lines) + "\n"


def test_the_reference_is_that_of_the_package():
    assert {name for names in REFERENCE.values() for name in names.split()} == set(gi.__all__)
    assert (ROOT / "docs/reference.md").read_text() == page_of_reference(), "run: python tests/test_docs.py"


if __name__ == "__main__":
    (ROOT / "docs/measures.md").write_text(page_of_measures())
    (ROOT / "docs/reference.md").write_text(page_of_reference())
