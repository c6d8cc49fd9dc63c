"""What objects show at a prompt and in a notebook, and progress below a cell."""

from __future__ import annotations

import html
import re
import sys
import types

import pytest

import grokinterp as gi
from grokinterp import controls
from grokinterp.progress import SHARE, bars, in_notebook
from grokinterp.replay import lives, phases
from grokinterp.shown import Found, Shown, html_table, in_words

LONGEST = 300


@pytest.fixture(scope="module")
def objects(quick_run):
    """One of everything that a user prints."""
    view = quick_run.view(-1)
    data = gi.replay(quick_run, steps=[0, 400, -1])
    report = gi.analyze(quick_run, measures=["loss", "gini.W_E"], with_replay=False)
    return {
        "Run": quick_run,
        "View": view,
        "TrainConfig": quick_run.config,
        "Operation": quick_run.task,
        "TableFacts": quick_run.task.facts,
        "KeyFrequencies": gi.key_frequencies(view),
        "Ablation": gi.ablate(view, "head", (0, 1)),
        "Measure": gi.MEASURES["gini.W_E"],
        "Phases": phases(data, quick_run.history),
        "Lives": lives(data),
        "Report": report,
        "Values": report.analysis.values,
        "Comparison": gi.compare(quick_run),
    }


KINDS = [
    "Run", "View", "TrainConfig", "Operation", "TableFacts", "KeyFrequencies", "Ablation", "Measure",
    "Phases", "Lives", "Report", "Values", "Comparison",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_everything_has_a_short_line_and_a_light_table(objects, kind):
    line, table = repr(objects[kind]), objects[kind]._repr_html_()
    assert line.startswith(f"<{kind} ")
    assert "\n" not in line
    assert len(line) < LONGEST
    assert table.startswith("<table>")
    assert table.endswith("</table>")
    assert table.count("<tr>") > 1
    assert len(table) < 12_000
    assert "<iframe" not in table
    assert "<script" not in table


def test_what_is_printed_to_be_read_says_all_of_it(objects):
    assert "load_bearing" in str(objects["KeyFrequencies"])
    assert "controls" in str(objects["Ablation"])
    assert "Latin square" in str(objects["TableFacts"])
    for kind in ("KeyFrequencies", "Ablation", "TableFacts", "Phases", "Lives"):
        assert isinstance(objects[kind], Found)
        for name, _ in objects[kind]._as_rows():
            assert name in str(objects[kind])


def test_tables_show_what_is_asked_of_them(objects, quick_run):
    def text_of(kind):
        return html.unescape(re.sub(r"<[^>]+>", " ", objects[kind]._repr_html_()))

    assert "training.lr" in text_of("TrainConfig")
    assert "a + b mod 53" in text_of("Run")
    assert objects["Report"].analysis.verdict in text_of("Report")
    assert objects["Report"].analysis.found in text_of("Report")
    assert "It generalises to pairs that it was not trained on" in text_of("Report")
    assert "Hurley and Rickard 2009" in text_of("Measure")
    assert f"{len(quick_run.split.train):,}" in text_of("View")


def test_a_network_in_memory_shows_itself():
    view = controls.random_network(7)
    report = gi.analyze(view, measures=["loss"])
    assert "a network in memory" in report._repr_html_()
    assert repr(view) == f"<View of {view.task.symbol}: 49 pairs>"
    assert repr(report.analysis.run) == "<Run in memory: a + b mod 7, step unknown>"
    assert "1 layer" in report.analysis.run._repr_html_()


def test_a_task_of_a_users_own_is_shown_too():
    class Odd(Shown):
        def _in_a_line(self):
            return "<b>bold</b>"

        def _as_rows(self):
            return [("<i>", "a & b")]

    assert Odd()._repr_html_().count("<b>") == 1
    assert "&lt;b&gt;bold" in Odd()._repr_html_()
    assert "a &amp; b" in Odd()._repr_html_()
    assert repr(gi.Task.of_function(lambda a, b: (a + b) % 5, 5, name="mine")).startswith("<Operation mine: ")


def test_plain_values_are_written_as_people_do():
    given = [None, True, 12345, 0.000123456, [1, 2], {}, {"a": 1.5}, "text"]
    assert [*map(in_words, given)] == ["–", "yes", "12,345", "0.0001235", "1, 2", "none", "a 1.5", "text"]
    assert "<th>" not in html_table("t", ["", ""], [])


# Progress


@pytest.fixture
def kernel(monkeypatch):
    """As if a notebook ran this: what it shows, in order."""
    shown = []

    class Handle:
        def update(self, element):
            shown.append(element)

    def display(element, display_id):
        assert display_id is True
        shown.append(element)
        return Handle()

    package, inner = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    package.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    inner.HTML, inner.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", inner)
    return shown


def test_progress_is_shown_below_a_cell_and_goes_away(kernel):
    assert in_notebook()
    with bars(None) as bar:
        task = bar.add_task("", total=300, what="step")
        bar.update(task, completed=20, description="loss <0.1")
        bar.advance(task)  # sooner than anybody sees
    assert kernel[0] == kernel[-1] == ""
    (line,) = kernel[1:-1]
    assert line.startswith('<div>step 20 of 300 <progress value="20" max="300"></progress> loss &lt;0.1')
    kernel.clear()
    with bars(True, SHARE) as bar:
        bar.update(bar.add_task("reading", total=1), completed=0.25)
    assert "25 % <progress" in kernel[1]
    with bars(False) as bar:
        assert bar is None


def test_work_of_several_kinds_shows_its_progress_there(kernel, tiny_run, tmp_path):
    gi.replay(tiny_run, ["loss"])
    gi.train_many([tiny_run.config], tmp_path / "many")
    gi.analyze(tiny_run, measures=["loss"], with_replay=False)
    text = "".join(kernel)
    for what in ("snapshot", "run", "measure"):
        assert f"<div>{what} " in text, what


def test_without_a_kernel_there_is_none(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    package = types.ModuleType("IPython")
    package.get_ipython = lambda: None  # at a prompt of Python that has imported it
    monkeypatch.setitem(sys.modules, "IPython", package)
    assert not in_notebook()


CELLS = """
import grokinterp as gi
run = gi.load_run({path!r})
run
---
gi.analyze(run, measures=["loss"], with_replay=False)
---
@gi.register_measure("of.a.cell", unit="1", ref="a cell")
def own(view): return 1
---
@gi.register_measure("of.a.cell", unit="1", ref="a cell")
def own(view): return 2
gi.measure("of.a.cell", run)
"""


def test_a_real_kernel_shows_them(tiny_run):
    nbclient = pytest.importorskip("nbclient", reason="nbclient and ipykernel are not installed")
    pytest.importorskip("ipykernel", reason="nbclient and ipykernel are not installed")
    import nbformat

    notebook = nbformat.v4.new_notebook()
    code = CELLS.format(path=str(tiny_run.path)).split("---")
    notebook.cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in code]
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = [cell.outputs[-1]["data"] if cell.outputs else {} for cell in notebook.cells]
    assert "<table>" in shown[0]["text/html"]
    assert "<table>" in shown[1]["text/html"]
    assert shown[3]["text/plain"] == "2.0"
