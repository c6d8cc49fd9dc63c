"""The report: its values against the measures, its page in a real browser with the network off."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

import grokinterp as gi
from conftest import tiny
from grokinterp.replay import lives, phases, spikes
from grokinterp.report import figures as figures_of_any
from grokinterp.report import palette, save_table
from grokinterp.report.operations import figures
from grokinterp.report.words import spoken
from grokinterp.tasks import make_task

REPORT = Path(figures.__file__).parents[1]
SCHEMA = {
    "schema", "run", "task", "table", "step", "step_known", "asked", "loss", "accuracy", "generalised",
    "state", "standing", "found", "phases",
    "key_frequencies", "training", "measures", "claims", "skipped",
}  # fmt: skip


@pytest.fixture(scope="module")
def quick_report(quick_run) -> gi.Report:
    return gi.analyze(quick_run)


@pytest.fixture(scope="module")
def fresh_report(quick_run) -> gi.Report:
    """Of the same network before its training."""
    return gi.analyze(quick_run, 0)


def of_its_task(run: gi.Run) -> set[str]:
    """The measures that are asked of a network with such a task."""
    return {name for name, measure in gi.MEASURES.items() if measure.applies_to(run.task)}


def test_the_values_are_those_of_the_measures(quick_run, quick_report):
    found = quick_report.to_dict()
    view = quick_run.view(-1)
    assert set(found) == SCHEMA
    assert found["schema"] == 2
    assert found["step"] == quick_run.steps[-1]
    assert found["generalised"] is True
    assert found["key_frequencies"]["consensus"] == gi.key_frequencies(view).consensus
    assert set(found["measures"]) | set(found["skipped"]) == of_its_task(quick_run)
    for name, entry in found["measures"].items():
        value = gi.measure(name, view)
        assert entry["value"] == (value if isinstance(value, float) else value.values.tolist())
        assert (entry["unit"], entry["ref"]) == (gi.MEASURES[name].unit, gi.MEASURES[name].ref)
    loss = gi.measure("loss", view)
    assert found["loss"] == {part: float(loss.sel(part=part)) for part in ("train", "test", "all")}


def test_report_json_is_strict_json_without_nan(quick_report, tmp_path):
    quick_report.save_json(tmp_path / "report.json")

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse) == quick_report.to_dict()


ATTENTION = "Attention is uniform over a and b, whatever they are"
CLOCK, PIZZA = (
    "It computes as a clock (multiplies in the attention)",
    "It computes as a pizza (averages, constant attention)",
)
MEMORISED = "It has only memorised its training examples"


def verdicts(report: gi.Report) -> dict[str, str]:
    return {claim["claim"]: claim["verdict"] for claim in report.to_dict()["claims"]}


@pytest.mark.trains
def test_a_network_that_has_grokked_gets_its_claims_supported(quick_report):
    found = verdicts(quick_report)
    # The small network of the fixture has about as many neurons of one frequency as that claim asks for.
    most = gi.measure("neuron.single_frequency_share", quick_report.analysis.view) >= 0.75
    assert (found.pop("Neurons are single-frequency") == "supported") == most
    assert {claim for claim, verdict in found.items() if verdict != "supported"} == {
        MEMORISED,
        ATTENTION,
        PIZZA,
    }
    assert set(found.values()) == {"supported", "refuted"}


@pytest.mark.trains
def test_a_fresh_network_gets_them_refuted_or_not_tested(quick_run):
    report = gi.analyze(quick_run, step=0)
    found = report.to_dict()
    assert found["generalised"] is False
    assert found["key_frequencies"]["consensus"] == []
    # Softmax of scores near 0 is uniform: that much is true of a fresh network.
    assert {claim for claim, verdict in verdicts(report).items() if verdict == "supported"} == {ATTENTION}
    assert found["skipped"]["restricted_loss.logit_dirs"].startswith(
        "the network has no key frequencies: none that more than half"
    )


@pytest.mark.trains
@pytest.mark.parametrize(
    ("task", "verdict"), [("random_table", "supported"), ("modular_addition", "refuted")]
)
def test_a_network_that_only_memorises_is_found_out(task, verdict, tmp_path):
    config = {"task": {"name": task, "p": 23}, "model": {"d_model": 64, "n_heads": 4, "d_mlp": 256}}
    settings = {
        "training.fraction": 0.4,
        "training.lr": 3e-3,
        "training.weight_decay": 0.0,
        "training.steps": 300,
    }
    run = gi.train(gi.TrainConfig.make(config, **settings), tmp_path / "run", progress=False)
    report = gi.analyze(run)
    found = verdicts(report)
    # Of a commutative operation a memoriser knows the mirror images of what it was trained on, and hardly
    # anything else.
    assert found[MEMORISED] == verdict
    if task == "modular_addition":
        assert report.analysis.standing.state == "learning"
        mirrored, new = report.analysis.values["accuracy.mirror"].values
        assert mirrored > 2 * new
    about_frequencies = [
        claim
        for claim in found
        if re.search("Fourier|single-frequency|sums of cos|key|clock|pizza|generalises", claim)
    ]
    assert len(about_frequencies) == 9
    assert {found[claim] for claim in about_frequencies} == {"refuted", "not tested"}


@pytest.mark.trains
def test_training_as_a_whole_is_told_as_the_replay_tells_it(quick_run, quick_report):
    found, data = quick_report.to_dict(), gi.replay(quick_run)
    told = phases(data, quick_run.history)
    assert list(found["phases"]) == ["memorisation", "circuit formation", "cleanup", "after"]
    assert found["phases"] == told.to_dict()["spans"]
    assert found["training"]["kind"] == told.kind == "groks"
    assert [b["name"] for b in found["training"]["boundaries"]] == [
        "memorised",
        "circuit formed",
        "cleaned up",
    ]
    assert found["training"]["lives"] == json.loads(json.dumps(lives(data).to_dict()))
    assert found["training"]["spikes"] == [spike.to_dict() for spike in spikes(quick_run.history, data)]
    assert found["training"]["keys_over_time"][-1]["keys"] == found["key_frequencies"]["consensus"]
    html = quick_report.to_html()
    assert told.sentence in html
    assert all(boundary.note in html for boundary in told.boundaries)
    assert lives(data).sentence in html


def test_keys_that_are_gone_in_the_end_do_not_spoil_the_report(quick_run):
    report = gi.analyze(quick_run, measures=["loss"])
    report.analysis.replayed = report.analysis.replayed.drop_vars("restricted_loss.logit_dirs@final_keys")
    html = report.to_html()
    assert "Does it matter whose keys?" in html
    assert "keys of each snapshot" in html


def test_a_section_names_the_measure_that_it_lacks(quick_run):
    report = gi.analyze(quick_run, measures=["fourier_norms.W_E", "circle.angle", "logit_cosine"], keys=[3])
    shown = text_of(report.to_html())
    assert "Not shown: circle.radius_spread was not measured." in shown  # of the embedding
    assert "Not shown: neuron.clusters was not measured." in shown
    assert "Cosines in the logits" in shown


def test_nothing_is_said_of_frequencies_where_there_are_none_but_why(tmp_path):
    group = {"task": {"name": "group_composition", "group": "S3"}}
    report = gi.analyze(gi.train(tiny(**group), tmp_path / "run", progress=False))
    found = report.to_dict()
    assert not found["skipped"].keys() & {"logit_cosine", "circle.angle", "key_frequencies.gap"}
    assert not any("requenc" in claim["claim"] or "cos " in claim["claim"] for claim in found["claims"])
    shown = text_of(report.to_html())
    assert "Key frequencies none: the elements of a b in S3 stand on no cyclic group" in shown
    assert "Cosines in the logits" not in shown


@pytest.mark.parametrize("error", [KeyError("colour"), ValueError("colour")])
def test_a_bug_of_a_figure_is_raised_not_taken_for_a_measure_that_is_missing(quick_run, monkeypatch, error):
    def broken(analysis):
        raise error

    report = gi.analyze(quick_run, measures=["logit_cosine"], with_replay=False)
    monkeypatch.setattr(figures, "logit_cosines", broken)
    with pytest.raises(type(error), match="colour"):
        report.to_html()


def test_colours_are_written_once():
    folder = REPORT
    literal = re.compile(r"#[0-9a-fA-F]{6}|\bhsl\(|\brgb\(")
    files = [*folder.rglob("*.py"), *folder.glob("*.js"), *folder.glob("*.html")]
    assert {file.name for file in files if literal.search(file.read_text())} == {"palette.py"}
    assert "--key:" not in (folder / "page.css").read_text()


OF_A_FAMILY = re.compile(r"\b(k|ks|a|b|keys?|freq\w*|cos|sin|elements|circles?|operands?)\b")
ALLOWED = {
    "page.js": ["Object.keys"],
    "replay.js": ['createElement("a")', "It needs a browser", "event.key"],
}


@pytest.mark.parametrize("asset", sorted(f.name for f in REPORT.iterdir() if f.suffix in (".js", ".html")))
def test_scripts_and_templates_know_no_axis_of_a_family_of_tasks(asset):
    text = (REPORT / asset).read_text()
    if asset.endswith(".js"):
        text = re.sub(r"^\s*//.*$|  //.*$", "", text, flags=re.MULTILINE)
    else:  # what a template computes, and what it says: there an "a" is an article
        computed = " ".join(re.findall(r"{{.*?}}|{%.*?%}", text, re.DOTALL))
        text = computed + re.sub(r"{{.*?}}|{%.*?%}|<[^>]*>|\ba\b", "", text, flags=re.DOTALL)
    for allowed in ALLOWED.get(asset, []):
        assert allowed in text
        text = text.replace(allowed, "")
    assert [match.group() for match in OF_A_FAMILY.finditer(text)] == []


@pytest.mark.trains
def test_without_a_replay_phases_are_told_by_accuracies_alone(quick_run):
    report = gi.analyze(quick_run, measures=["loss"], with_replay=False)
    found = report.to_dict()
    assert found["training"]["kind"] == "groks"
    assert "lives" not in found["training"]
    assert "Not shown: nobody asked for it." in report.to_html()


@pytest.fixture(
    params=[
        {"task": {"name": "group_composition", "group": "S3"}},
        {"task.name": "modular_division", "task.p": 7},
        {"task.p": 2, "training.fraction": 0.5},
        {"task.p": 3},
        {"task.p": 4},
        {"model.d_mlp": 0},
        {"model.n_layers": 2, "model.normalization": "LN", "task.layout": "a op b ="},
        {"training.loss": "mse"},
        {"training.loss": "log_softmax"},
        {"task.p": 5, "model.d_model": 1, "model.n_heads": 1},
    ],
    ids=lambda overrides: " ".join(map(str, overrides.values())),
)
def odd_run(request, tmp_path):
    return gi.train(tiny(**request.param), tmp_path / "odd", progress=False)


def test_every_task_and_network_gets_a_report_with_reasons_for_what_is_missing(odd_run):
    report = gi.analyze(odd_run)
    found = report.to_dict()
    assert set(found["measures"]) | set(found["skipped"]) == of_its_task(odd_run)
    assert all(reason and "\n" not in reason for reason in found["skipped"].values())
    json.dumps(found, allow_nan=False)
    assert found["task"]["symbol"] in text_of(report.to_html())


def test_a_run_without_any_evaluation_after_the_first_step_has_no_phases_but_a_report(tmp_path):
    run = gi.train(tiny(**{"training.steps": 1}), tmp_path / "short", progress=False)
    assert gi.analyze(run).to_dict()["phases"].keys() <= {"memorisation"}


def test_the_page_opens_with_the_answer(quick_run, quick_report):
    assert "Yes: it generalises." in told_of(quick_report)[:400]
    assert quick_report.analysis.found in told_of(quick_report)[:800]
    early = told_of(gi.analyze(quick_run, step=0))
    assert "step 0: not its last snapshot, which is of step" in early[:200]
    assert "No: it is at chance." in early[:400]


def test_the_page_takes_nothing_from_the_network_and_runs_only_its_own_scripts(quick_report):
    page = quick_report.to_html()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert "unsafe-eval" not in policy
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=\"(?!data:)", page)
    assert page.count("plotly.js v") == 1
    assert len(page) < 10e6


def test_text_from_a_run_cannot_become_markup(quick_run, tmp_path):
    hostile = tmp_path / "<img src=x onerror=alert(1)>"
    shutil.copytree(quick_run.path, hostile)
    assert "<img src=x" not in gi.analyze(gi.load_run(hostile)).to_html()


def told_of(report: gi.Report) -> str:
    """What the page says beside its contents."""
    return text_of(report.to_html().partition("<main>")[2])


def text_of(page: str) -> str:
    """What a reader sees, scripts and styles left out."""
    parser = _Text()
    parser.feed(page)
    return " ".join(" ".join(parser.text).split())


class _Links(HTMLParser):
    """What a page links to, what can be linked to in it, and its code names by their words."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.codes: dict[str, str] = {}
        self._code = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        said = dict(attrs)
        self.links += [said["href"]] if tag == "a" else []
        self.ids += [said["id"]] if "id" in said else []
        self._code = said.get("title", "") if tag in ("a", "abbr") else ""

    def handle_endtag(self, tag):
        self._code = ""

    def handle_data(self, data):
        if self._code:
            self.codes[self._code] = data


def test_every_link_of_the_page_leads_somewhere(quick_report):
    page = _Links(quick_report.to_html())
    assert len(page.ids) == len(set(page.ids))
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) <= set(page.ids)
    found = quick_report.to_dict()
    assert {f"measure-{name}" for name in found["measures"]} <= set(page.ids)
    assert {"measure-logit_fve.centred", "panel-cosines-in-the-logits", "section-attention"} <= set(inside)


def test_a_claim_leads_to_its_figure_its_numbers_and_its_moment(quick_report):
    claims = quick_report.to_html().partition('<div class="claims">')[2].partition('id="facts"')[0]
    each = claims.split("<article")[1:]
    assert len(each) == len(quick_report.analysis.claims)
    assert all('href="#panel-' in text or 'href="#section-' in text for text in each)
    formed = next(b.by for b in quick_report.analysis.phases.boundaries if b.name == "circuit formed")
    sufficient = next(text for text in each if "frequencies are sufficient" in text)
    assert 'href="#measure-restricted_loss.logit_dirs"' in sufficient
    assert f'href="replay.html#step={formed}"' in sufficient


def test_a_replay_that_is_not_made_is_said_with_the_command_that_makes_it(quick_run, tmp_path):
    run = gi.load_run(shutil.copytree(quick_run.path, tmp_path / "run"))
    shown = text_of(gi.analyze(run, measures=["loss"], with_replay=False).to_html())
    assert (
        f"The replay of this run has not been made: the links lead to it once grokinterp replay {run.path}"
        in (shown)
    )
    assert f"This page again: grokinterp analyze {run.path} --measure loss" in shown
    (run.path / "replay.html").touch()
    shown = text_of(gi.analyze(run, measures=["loss"], with_replay=False).to_html())
    assert "has not been made" not in shown


def test_code_names_are_words_with_the_name_in_a_tooltip(quick_report):
    page = quick_report.to_html()
    codes = _Links(page).codes
    rules = {"w_e_norm", "gap", "neurons", "w_l", "load_bearing", "logits"}
    assert rules <= codes.keys()
    assert codes["w_e_norm"] == "loud in the embedding"
    assert codes["restricted_loss.logit_dirs"] == "restricted loss, logit directions"
    assert spoken("restricted_loss.w_l_directions") == "restricted loss, W_L directions"
    assert spoken("restricted_loss.block2x2") == "restricted loss, block 2 × 2"
    facts = text_of(page.partition('id="facts"')[2].partition("</section>")[0])
    assert not re.search(r"\w_\w", facts)


def test_all_numbers_are_folded_away_by_subject_each_with_its_definition(quick_report):
    page = quick_report.to_html().partition('id="numbers"')[2].partition('id="run"')[0]
    assert page.count("<details") > 5
    assert "<details open" not in page
    subjects = page.split("<details")[1:]
    of_loss = next(text for text in subjects if 'id="measure-loss"' in text)
    assert 'id="measure-accuracy"' in of_loss
    assert 'id="measure-gini.W_E"' not in of_loss
    shown = text_of(page)
    for name in quick_report.to_dict()["measures"]:
        assert f"{name} " in shown
        assert " ".join(gi.MEASURES[name].doc.split("\n\n")[0].split()) in shown


def test_heatmaps_of_high_frequencies_are_drawn_in_their_order(quick_report):
    a = quick_report.analysis
    for k in a.keys_used:
        figure, neuron, _ = figures.example_neuron(a, k)
        z = torch.tensor(np.asarray(figure.data[0].z)).double()
        power = torch.fft.fft(z - z.mean(), dim=1).abs().square().sum(0)[1 : len(z) // 2]
        assert int(power.argmax()) + 1 == 1  # once round, however high k is
        assert f"ordered by {k}b mod 53" in figure.layout.xaxis.title.text
        elements = [int(name) for name in figure.data[0].x]
        assert [k * b % 53 for b in elements] == list(range(53))
        raw = a.view.neurons[:, neuron].reshape(53, 53)
        rows = [int(name) for name in figure.data[0].y]
        assert raw.min() >= 0  # as of any ReLU: colours go from 0
        shown, true = (z + 127) / 254, raw[rows][:, elements] / raw.max()
        assert torch.allclose(shown, true, atol=0.005)  # half of one of 255 levels
        assert figure.data[0].colorscale[0][1] == palette.SEQUENTIAL[0]


def test_colours_go_both_ways_from_0_only_where_some_value_is_negative():
    values = torch.tensor([[0.0, 1.0], [2.0, 4.0]])
    above, around = (figures_of_any.heatmap(z, "b", "a", "weight").data[0] for z in (values, values - 1.5))
    assert above.colorscale[0][1] == palette.SEQUENTIAL[0]
    assert around.colorscale[0][1] == palette.DIVERGING[0]
    assert list(above.colorbar.ticktext) == ["0", "1", "2", "3", "4"]
    assert list(around.colorbar.ticktext) == ["−2.5", "−1.25", "0", "1.25", "2.5"]


def test_the_page_draws_plotly_once_and_the_first_figures_without_it(quick_report):
    page = quick_report.to_html()
    assert page.count("plotly.js v") == 1
    header = page.partition("<header")[2].partition("</header>")[0]
    assert header.count('<figure class="drawn') == 2
    assert 'class="plot"' not in header


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self._silent = False

    def handle_starttag(self, tag, attrs):
        self._silent = tag in ("script", "style", "title")

    def handle_endtag(self, tag):
        self._silent = False

    def handle_data(self, data):
        if not self._silent:
            self.text.append(data)


ODD = r"""() => {
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
  const odd = [], width = innerWidth, box = (node) => node.getBoundingClientRect();
  const over = (p, q) => Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2
    && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 2;
  if (document.documentElement.scrollWidth > width) odd.push("the page is wider than the window");
  for (const node of document.querySelectorAll("main *")) {
    if (node.closest(".plot, svg, .scroll")) continue;
    const at = box(node);
    if (at.width && (at.right > width + 1 || at.left < -1))
      odd.push("cut off: " + node.textContent.slice(0, 60));
  }
  for (const table of document.querySelectorAll(".scroll"))
    if (table.scrollWidth > table.clientWidth + 1) odd.push("wide table: " + table.textContent.slice(0, 60));
  for (const plot of document.querySelectorAll(".plot")) {
    const title = plot.closest(".panel").querySelector("h2, h3").textContent, all = box(plot);
    const legend = plot.querySelector(".legend"), area = plot.querySelector(".nsewdrag");
    if (legend && over(box(legend), box(area))) odd.push("legend on the curves: " + title);
    for (const text of plot.querySelectorAll("text")) {
      const at = box(text);
      if (at.width && (at.right > all.right + 3 || at.left < all.left - 3 || at.bottom > all.bottom + 3))
        odd.push("words cut off: " + title + ": " + text.textContent);
    }
    const is = (what, more) => odd.push(what + ": " + title + (more ? ": " + more : ""));
    const words = [...plot.querySelectorAll("text")].filter(
      (text) => !text.closest(".textpoint, .heatmaplayer") && box(text).width);
    words.forEach((text, i) => words.slice(0, i).forEach((other) => {
      if (over(box(text), box(other)) && !text.contains(other) && !other.contains(text))
        is("words on words", text.textContent + " and " + other.textContent);
    }));
    for (const word of words)
      if (legend && !legend.contains(word) && over(box(word), box(legend)))
        is("words in the legend", word.textContent);
    const up = plot.querySelector(".ytitle"), made = plot.dataset.height - 60;
    const ticks = [...plot.querySelectorAll(".xtick text, .ytick text, .cbaxis text")];
    if (up && box(up).height > box(area).height + 4) is("the name of an axis is longer than it");
    for (const { textContent: said } of ticks)
      if (/\dk$|-/.test(said) && !/[a-z]/.test(said.slice(0, -1))) is("another style", said);
    if (new Set(ticks.map((tick) => getComputedStyle(tick).fontSize)).size > 1) is("labels of two sizes");
    const square = ({ type, z }) => type === "heatmap" && z.length > 30 && z.length === z[0].length;
    const image = plot._fullData.some(square) && plot.querySelector(".heatmaplayer image");
    if (image && Math.abs(image.getAttribute("width") / image.getAttribute("height") - 1) > 0.02)
      is("cells that are no squares");
    if (!plot.matches(".square") && box(area).height < 0.75 * made && !plot._fullLayout.yaxis2)
      is("no room for curves");
  }
  for (const figure of document.querySelectorAll(".drawn")) {
    const legend = figure.querySelector("figcaption"), area = figure.querySelector(".area");
    if (legend && over(box(legend), box(area))) odd.push("legend on the curves of a still figure");
  }
  return odd;
}"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 800, 400])
def test_nothing_is_cut_off_or_covered_and_the_first_screen_says_what_was_found(
    browser, quick_report, tmp_path, width
):
    quick_report.save_html(tmp_path / "report.html")
    with opened(browser, tmp_path / "report.html", width) as (page, problems):
        found, figure = (
            page.locator(".found").bounding_box(),
            page.locator(".drawn .area").first.bounding_box(),
        )
        assert found["y"] + found["height"] < 900
        assert figure["y"] + (figure["height"] if width > 400 else 100) < 900
        if width == 1400:  # circles beside the curves
            circles = page.locator("header .drawn .area").nth(1).bounding_box()
            assert circles["y"] + circles["height"] < 900
            contents = page.locator("nav").bounding_box()
            assert contents["x"] + contents["width"] <= figure["x"]
        else:  # the contents are one line
            assert page.locator("nav").bounding_box()["height"] < 60
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        page.wait_for_function(
            "document.querySelectorAll('.plot').length === "
            "document.querySelectorAll('.plot[data-drawn]').length"
        )
        assert page.evaluate(ODD) == []
        labels = page.locator("#panel-restricted-and-excluded-loss .ytick text").all_text_contents()
        assert "logit directions" in labels
        assert not [label for label in labels if re.search("[a-z]_|_[a-z]", label)]
        assert problems == []


@pytest.mark.browser
def test_a_link_to_a_number_opens_what_it_is_folded_into(browser, quick_report, tmp_path):
    quick_report.save_html(tmp_path / "report.html")
    with opened(browser, tmp_path / "report.html", 1400) as (page, problems):
        number = page.locator("[id='measure-logit_fve.centred']")
        assert not number.is_visible()
        page.locator("a[href='#measure-logit_fve.centred']").first.click()
        number.wait_for(state="visible")
        assert page.locator("details[open]").count() == 1
        assert problems == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 800, 400])
def test_the_page_of_a_table_is_small_and_says_the_answer_under_the_mouse(browser, tmp_path, width):
    save_table(make_task("modular_addition", p=113), tmp_path / "table.html")
    assert (tmp_path / "table.html").stat().st_size < 100_000
    with opened(browser, tmp_path / "table.html", width) as (page, problems):
        assert page.evaluate(ODD) == []
        assert page.locator("h1").inner_text() == "The table of a + b mod 113"
        assert "T[a, b] is the answer to a and b" in page.inner_text("header")
        box = page.locator(".area").first.bounding_box()
        cell = box["width"] / 113
        page.mouse.move(box["x"] + 5.5 * cell, box["y"] + 110.5 * cell)  # a = 110, b = 5
        page.locator("output.tip").first.filter(has_text="a 110, b 5: 2").wait_for()
        assert problems == []


@contextlib.contextmanager
def opened(browser, file, width):
    """A page of that width with the network off, and what its console complains of."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    context.set_default_timeout(300_000)  # ms: a machine may be busy
    page, problems = context.new_page(), []
    page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
    yield page, problems
    context.close()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")], ids=["desktop", "phone"])
@pytest.mark.parametrize("step", [-1, 0], ids=["grokked", "fresh"])
def test_the_page_draws_every_figure_offline_without_a_console_error(
    browser, quick_report, fresh_report, tmp_path, width, scheme, step
):
    file = tmp_path / "report.html"
    (fresh_report if step == 0 else quick_report).save_html(file)
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, color_scheme=scheme)
    context.set_default_timeout(300_000)  # ms: a machine may be busy
    page = context.new_page()
    problems: list[str] = []
    requests: list[str] = []
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_function("document.documentElement.dataset.ready === 'yes'", timeout=60_000)
    drawn = page.locator(".plot .main-svg:first-child")
    assert drawn.count() < page.locator(".plot").count()  # those far below wait
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(
        "document.querySelectorAll('.plot').length === "
        "document.querySelectorAll('.plot .main-svg:first-child').length"
    )

    assert problems == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.locator(".plot").count() == page.locator(".plot .main-svg:first-child").count() > 5
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # No table is so wide that values lie beyond the page.
    wide = "[...document.querySelectorAll('.scroll')].filter(x => x.scrollWidth > x.clientWidth + 1).length"
    assert page.evaluate(wide) == 0
    titles = page.evaluate(
        "[...document.querySelectorAll('.plot')].map(p => [p.layout.xaxis.title.text, "
        "p.layout.yaxis.title.text])"
    )
    assert all(x and y for x, y in titles)
    values = page.evaluate("[...document.querySelectorAll('.plot')].map(p => p._fullData.length)")
    assert all(count >= 1 for count in values)
    lines = (
        "[...document.querySelectorAll('.plot')].flatMap(p => p.data).filter(trace => trace.type === "
        "'scatter')"
    )
    assert math.isfinite(page.evaluate(f"{lines}[0].y.length ?? 1"))
    context.close()
