"""The page of a replay: what each panel shows against the Dataset, in a real browser with the network off;
the command that writes it."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import xarray as xr

import grokinterp as gi
from conftest import tiny
from grokinterp.registry import OfFamilies
from grokinterp.replay import FINAL, PICTURES, PROGRESS, Boundary, Phase, Phases, graduation
from grokinterp.report import canvas, learned, replay_page

SHIPPED = Path(__file__).parents[1] / "checkpoints/modular_addition_113"


def fake_phases(steps: list[int]) -> Phases:
    """Phases with boundaries of our own choosing."""
    third, last = steps[len(steps) // 3], steps[-1]
    return Phases(
        "groks",
        "First it memorised, then a circuit formed.",
        [Phase("memorisation", 0, third), Phase("circuit formation", third, last)],
        [Boundary("circuit formed", third - 1, third, "it moves by 10 steps")],
    )


@pytest.fixture(scope="module")
def quick(quick_run, tmp_path_factory) -> gi.Run:
    """The quick run in a directory of this module's own, so that what is kept of it is."""
    folder = tmp_path_factory.mktemp("quick") / "run"
    shutil.copytree(quick_run.path, folder, ignore=shutil.ignore_patterns("replay"))
    return gi.load_run(folder)


@pytest.fixture(scope="module")
def some_steps(quick) -> list[int]:
    """The first snapshots, two from the middle and the last: few, for speed."""
    return sorted({*quick.steps[:2], *quick.steps[len(quick.steps) // 2 :: 5], quick.steps[-1]})


@pytest.fixture(scope="module")
def quick_data(quick, some_steps) -> xr.Dataset:
    return gi.replay(quick, [*PROGRESS, *PICTURES], some_steps)


def contents(page: str) -> dict:
    """What a page carries, arrays unpacked: values, or levels turned into values with the size of a level."""
    return json.loads(
        re.search(r'<script type="application/json" id="replay">(.*?)</script>', page, re.DOTALL)[1],
        object_hook=unpacked,
    )


def unpacked(value: dict):
    if "data" not in value:
        return value
    raw = np.frombuffer(gzip.decompress(base64.b64decode(value["data"])), value["type"]).reshape(
        value["shape"]
    )
    if value["type"] == "float32":
        return raw
    levels = np.cumsum(raw.astype(int), axis=0).astype(np.int8)
    low, high = (np.array(value[end])[:, None, None] for end in ("low", "high"))
    return np.where(levels == -128, np.nan, low + (levels + 127.0) / 254 * (high - low))


def test_heatmaps_are_within_half_a_level_of_the_values_and_keep_what_is_missing(quick, quick_data):
    data = quick_data.copy()
    data["picture.logits"] = data["picture.logits"].copy()
    data["picture.logits"][1] = np.nan
    panels = {panel["id"]: panel for panel in contents(replay_page(data, quick.history))["panels"]}
    for panel, name, level in (
        ("logit-of-one-answer", "picture.logits", 2 * float(abs(data["picture.logits"]).max()) / 254),
        ("2-d-spectrum-of-the-logits", "picture.logit_spectrum", 6 / 254),
    ):
        values = data[name].values.reshape(panels[panel]["values"].shape)
        np.testing.assert_allclose(panels[panel]["values"], values, rtol=0, atol=level * 0.501)
        assert not np.allclose(
            panels[panel]["values"], values, rtol=0, atol=level * 0.4
        )  # or the levels would be finer than promised


def test_the_page_takes_nothing_from_the_network_and_runs_only_its_own_script(quick, quick_data):
    page = replay_page(quick_data, quick.history)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert "unsafe-eval" not in policy
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=\"(?!data:)", page)
    assert page == replay_page(quick_data, quick.history)


def test_text_from_a_run_cannot_become_markup(quick, quick_data):
    hostile = quick_data.assign_attrs(run="</script><img src=x onerror=alert(1)>", task="<b>")
    page = replay_page(hostile, quick.history)
    assert "<img" not in page
    assert "<b>" not in page
    assert contents(page)["run"] == hostile.attrs["run"]


def test_what_cannot_be_drawn_is_absent_with_its_reason(quick, quick_data):
    without = quick_data.drop_vars(["picture.attention", "accuracy"]).assign_attrs(
        skipped=json.dumps({"picture.attention": "the network has no attention"})
    )
    page = replay_page(without, quick.history)
    ids = {panel["id"] for panel in contents(page)["panels"]}
    assert ids & {"attention", "accuracy", "loss"} == {"loss"}
    assert "<dt>Attention</dt><dd>the network has no attention</dd>" in page
    assert "<dt>Accuracy</dt><dd>accuracy was not measured</dd>" in page


def test_one_reason_is_given_once(quick, quick_data):
    without = quick_data.drop_vars(["accuracy", "gini.W_E", "picture.attention"]).assign_attrs(
        skipped=json.dumps({"accuracy": "nobody asked", "picture.attention": "nobody asked"})
    )
    page = replay_page(without, quick.history)
    assert "<dt>Accuracy, Attention</dt><dd>nobody asked</dd>" in page
    assert page.count("<dd>nobody asked</dd>") == 1


def test_a_pair_is_right_for_good_from_the_step_after_it_was_last_wrong():
    right = np.array([[1, 0, 1, 0], [0, 0, 1, np.nan], [1, 1, 1, 0]])  # over steps and pairs
    right[:, 3] = np.nan
    values = (("step", "pairs", "a", "b"), right.reshape(3, 1, 2, 2))
    data = xr.Dataset({"picture.right": values}, {"step": [0, 10, 30], "pairs": ["all"]})
    since = graduation(data).values.flatten()
    np.testing.assert_array_equal(since, [30, 30, 0, np.nan])
    data["picture.right"][-1] = 0
    assert np.isposinf(graduation(data).values.flatten()[:3]).all()


def test_other_measures_get_curves_or_bars_or_a_line_that_says_where_they_are(quick, quick_data):
    steps = quick_data["step"].values
    more = quick_data.assign(
        {
            "mine.number": ("step", np.arange(len(steps)) * 1.0, {"unit": "weight"}),
            "mine.parts": (("step", "part"), np.zeros((len(steps), 3)), {"unit": "1"}),
            "mine.waves": (("step", "freq"), np.ones((len(steps), quick_data.sizes["freq"])), {"unit": "1"}),
            "mine.heads": (("step", "layer", "head"), np.ones((len(steps), 1, 4)), {"unit": "1"}),
        }
    )
    page = replay_page(more, quick.history, chosen=["circle.angle"])
    panels = {panel["title"]: panel for panel in contents(page)["panels"]}
    assert {title: panels[title]["kind"] for title in panels if title.startswith("mine")} == {
        "mine.number": "curves",
        "mine.parts": "curves",
        "mine.waves": "bars",
    }
    assert "<dt>mine.heads</dt><dd>an array over layer, head; `--data` writes it to a file</dd>" in page
    assert panels["mine.number"]["y"] == "mine.number (weight)"
    assert [series["label"] for series in panels["mine.parts"]["series"]] == ["train", "test"]
    assert panels["mine.number"]["shown"]
    assert panels["circle.angle"]["shown"]
    assert not panels["circle.radius_spread"]["shown"]


def test_colours_end_where_the_last_step_does_and_the_caption_says_what_is_beyond():
    maps = np.full((10, 2, 4, 4), 0.5)
    maps[-1], maps[0, 0, 0, 0] = 1.0, 20.0  # one bright value of the first map, at the first step
    axis = canvas.Axis.of("a", list("0123"), str)
    made = canvas.heatmaps(maps, ["u", "v"], axis, axis, "activation")
    levels = made.data["values"]
    assert levels["high"] == [1.0, 1.0]
    assert levels["beyond"] == [True, False]
    assert "earlier ones go up to 20" in made.note
    maps[0] = 1.2  # hardly more: nothing is beyond the colours
    made = canvas.heatmaps(maps, ["u", "v"], axis, axis, "activation")
    assert (made.data["values"]["high"], made.note) == ([1.2, 1.2], "")


def test_the_head_says_what_the_network_does_as_its_report_does(quick, tmp_path, monkeypatch):
    file = tmp_path / "replay.html"
    data = gi.save_replay(quick, file)
    found = gi.analyze(quick).analysis.found
    assert found.startswith("It adds")
    assert found in file.read_text().partition("</header>")[0]
    gi.save_replay(quick, file, reload=5)  # it is still being trained
    assert found not in file.read_text()
    # Where a replay takes nothing of the final network, nothing is measured for that sentence alone.
    monkeypatch.setattr(learned, "FROM_FINAL", OfFamilies("option"))
    assert learned.found_at_the_end(quick, data) == found
    fresh = gi.load_run(
        shutil.copytree(quick.path, tmp_path / "run", ignore=shutil.ignore_patterns("replay"))
    )
    assert learned.found_at_the_end(fresh, data) == ""


def test_the_history_is_drawn_only_where_it_is_of_the_same_quantity(quick, quick_data):
    def lines(history: pd.DataFrame) -> list[dict | None]:
        panels = {panel["id"]: panel for panel in contents(replay_page(quick_data, history))["panels"]}
        return [series["line"] for series in panels["loss"]["series"]]

    train, test, *others = lines(quick.history)
    np.testing.assert_allclose(train["y"], quick.history["train_loss"], rtol=1e-6)
    assert len(test["x"]) == len(quick.history) > len(quick_data["step"])
    assert others == [None, None]
    assert lines(quick.history.assign(train_loss=quick.history["train_loss"] * 2))[0] is None
    assert lines(quick.history.iloc[:0]) == [None] * 4


# In a browser


def opened(browser, file: Path, fragment: str = "", width: int = 1280, scheme: str = "light"):
    """A page with the network off, and what went wrong on it."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, color_scheme=scheme)
    context.set_default_timeout(300_000)  # ms: a machine may be busy
    page = context.new_page()
    page.add_init_script(RECORDED)
    problems: list[str] = []
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda r: problems.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None,
    )
    page.goto(file.as_uri() + fragment)
    until(page, "document.documentElement.dataset.ready === 'yes'")
    return page, problems


RECORDED = r"""
  window.written = new Map();  // of each canvas what is written on it since it was cleared, and where
  const of = CanvasRenderingContext2D.prototype;
  const write = of.fillText, clear = of.clearRect, copy = of.drawImage;
  of.clearRect = function (...box) { written.set(this.canvas, []); clear.apply(this, box); };
  of.drawImage = function (image, ...at) {  // what stands behind was written there
    if (written.has(image) && !image.isConnected) written.get(this.canvas).push(...written.get(image));
    copy.call(this, image, ...at);
  };
  of.fillText = function (text, x, y, most) {
    const m = this.measureText(text), t = this.getTransform();
    const across = [-m.actualBoundingBoxLeft, m.actualBoundingBoxRight];
    const down = [-m.actualBoundingBoxAscent, m.actualBoundingBoxDescent];
    const corners = across.flatMap((dx) => down.map((dy) => t.transformPoint({ x: x + dx, y: y + dy })));
    const [xs, ys] = [corners.map((p) => p.x), corners.map((p) => p.y)];
    if (!written.has(this.canvas)) written.set(this.canvas, []);
    written.get(this.canvas).push({ text, squeezed: m.width > most + 0.5,
      left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) });
    write.call(this, text, x, y, ...(most === undefined ? [] : [most]));
  };
"""
"""Before a page is made: from then on it is known what is written on its canvases."""
WRITTEN = """() => [...written].flatMap(([canvas, words]) => {
  if (!canvas.isConnected || !words.length) return [];
  const title = canvas.closest(".panel").querySelector("h2").textContent, odd = [];
  words.forEach((word, i) => {
    if (word.squeezed) odd.push(title + ": squeezed: " + word.text);
    if (word.left < 0 || word.right > canvas.width + 1 || word.top < 0 || word.bottom > canvas.height + 1)
      odd.push(title + ": cut off: " + word.text);
    for (const other of words.slice(0, i))
      if (Math.min(word.right, other.right) - Math.max(word.left, other.left) > 1
          && Math.min(word.bottom, other.bottom) - Math.max(word.top, other.top) > 1)
        odd.push(title + ": " + word.text + " on " + other.text);
  });
  return odd;
})"""
"""Words on canvases that are squeezed, cut off, or lie on one another."""


def until(page, true: str, seconds: float = 600) -> None:
    """Waits in this process: the page's policy lets no script of Playwright's wait inside it. While the page
    loads again there is none."""
    from playwright.sync_api import Error

    def now() -> bool:
        try:
            return bool(page.evaluate(true))
        except Error:
            return False

    wait(now, seconds)


def expected(data: xr.Dataset, step: int) -> dict[str, object]:
    """What every standard panel should show of a step, straight from the Dataset."""
    now = data.sel(step=step)
    spectra = {
        name: [
            [float(now[name].sel(component=f"{wave} {k}")) for k in data["freq"].values]
            for wave in ("cos", "sin")
        ]
        for name in ("fourier_norms.W_E", "fourier_norms.W_L")
    }
    return {
        "loss": {
            "train": now["loss"].sel(part="train"),
            "test": now["loss"].sel(part="test"),
            "restricted to the keys, all": now["restricted_loss.logit_dirs" + FINAL].sel(part="all"),
            "without the keys, train": now["excluded_loss.logit_dirs" + FINAL].sel(part="train"),
        },
        "accuracy": {part: now["accuracy"].sel(part=part) for part in ("train", "test")},
        "weights": {"all parameters": now["sum_of_squares"].sel(parameter="total")},
        "sparsity": {
            "Gini of W_E": now["gini.W_E"],
            "Gini of W_L": now["gini.W_L"],
            "neurons of one frequency": now["neuron.single_frequency_share"],
            "logits explained by the keys": now["logit_fve.centred"],
        },
        "spectrum-of-w-e": spectra["fourier_norms.W_E"],
        "spectrum-of-w-l": spectra["fourier_norms.W_L"],
        "neurons-by-frequency": [now["neuron.clusters"].values],
        "cosines-in-the-logits": [now["logit_cosine"].values],
        "from-when-on-each-pair-is-right": right_since(data)
        .where(right_since(data) <= step)
        .values.flatten(),
        "accuracy-by-answer": [now["picture.accuracy_by_answer"].sel(pairs="unseen").values],
        "aliasing-gap-of-the-keys": {
            "keys " + ", ".join(map(str, json.loads(data.attrs["final_keys"]))): now[
                "aliasing_gap.closest" + FINAL
            ],
            "keys of each snapshot": now["aliasing_gap.closest"],
        },
        "lead-by-distance": [now["aliasing_gap.by_distance" + FINAL].values],
        "circles": now["picture.circles" + FINAL].values.flatten(),
        "neurons": np.minimum(in_their_order(data, now, NEURONS), brightest(data)),
        "attention": in_their_order(data, now, "picture.attention"),
        "logit-of-one-answer": now["picture.logits"].values.flatten(),
        "2-d-spectrum-of-the-logits": now["picture.logit_spectrum"].values.flatten(),
        "2-d-spectrum-of-the-neurons": now["picture.neuron_spectrum"].values.flatten(),
    }


NEURONS = "picture.neurons" + FINAL


def in_their_order(data: xr.Dataset, now: xr.Dataset, name: str) -> np.ndarray:
    """Pictures in the order in which the frequency that each has most of at the end goes round once."""
    found = []
    for final, picture in zip(data[name].isel(step=-1).values, now[name].values, strict=True):
        power, m = np.abs(np.fft.fft2(final - final.mean())) ** 2, len(final)
        of = [power[k].sum() + power[-k].sum() + power[:, k].sum() + power[:, -k].sum() for k in range(m)]
        k = 1 + int(np.argmax(of[1 : m // 2 + 1]))
        order = [next(i for i in range(m) if k * i % m == turn) for turn in range(m)]
        found.append(picture[order][:, order].flatten())
    return np.concatenate(found)


def brightest(data: xr.Dataset) -> np.ndarray:
    """The value at which the colours of each neuron end, for each of its pairs: the largest at the end, or
    where nine of ten at all steps lie; the largest of all where that is hardly more."""
    maps = data[NEURONS].values.astype(float)
    ends = []
    for q in range(maps.shape[1]):
        of = maps[:, q][np.isfinite(maps[:, q])]
        end = max(maps[-1, q].max(), np.quantile(of, 0.9))
        ends += [end if end < 0.8 * of.max() else of.max()] * maps.shape[-1] ** 2
    return np.array(ends)


def right_since(data: xr.Dataset) -> xr.DataArray:
    """The first step of those after the last at which a pair is wrong; NaN where it is wrong at the last."""
    right, steps = data["picture.right"], data["step"]
    since = steps.min() + 0 * right[0]
    for before, after in itertools.pairwise(steps.values):
        since = since.where(right.sel(step=before) == 1, after)
    return since.where(right[-1] == 1)


def half_level(data: xr.Dataset, panel: str) -> np.ndarray | float:
    """Half of the 254th part of what the colours of a heatmap span; 0 for other panels."""
    if panel == "neurons":
        return brightest(data) / 254 / 2
    spans = {
        "attention": 1.0,
        "logit-of-one-answer": 2 * float(abs(data["picture.logits"]).max()),
        "2-d-spectrum-of-the-logits": 6.0,
        "2-d-spectrum-of-the-neurons": 6.0,
    }
    return spans.get(panel, 0.0) / 254 / 2


def assert_panels_agree(page, data: xr.Dataset, step: int) -> None:
    shown = page.evaluate("grokinterpReplay.current()")
    wanted = expected(data, step)
    assert shown["step"] == step
    assert shown["panels"].keys() == wanted.keys()
    for panel, values in wanted.items():
        found = shown["panels"][panel]
        if isinstance(values, dict):
            assert found.keys() == values.keys(), panel
            values, found = list(values.values()), list(found.values())
        found, values = np.array(found, float), np.array(values, float)
        assert (np.isnan(found) == np.isnan(values)).all(), panel
        off = np.abs(found - values) - half_level(data, panel)
        assert (np.isnan(off) | (off <= 1e-5 * np.maximum(1, np.abs(values)))).all(), panel


def pixels(page) -> dict[str, str]:
    return page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.panel:not([hidden])')].map(p => [p.id, "
        "p.querySelector('canvas').toDataURL()]))"
    )


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")], ids=["desktop", "phone"])
def test_one_slider_moves_every_panel_and_each_agrees_with_the_dataset(
    browser, quick, quick_data, tmp_path, width, scheme
):
    steps = [int(step) for step in quick_data["step"].values]
    file = tmp_path / "replay.html"
    file.write_text(replay_page(quick_data, quick.history, fake_phases(steps)))
    page, problems = opened(browser, file, "", width, scheme)

    page.keyboard.press("End")
    assert_panels_agree(page, quick_data, steps[-1])
    seen = {steps[-1]: pixels(page)}
    page.focus("body")
    page.keyboard.press("ArrowLeft")
    assert_panels_agree(page, quick_data, steps[-2])
    page.keyboard.press("End")
    assert_panels_agree(page, quick_data, steps[-1])
    page.keyboard.press("Home")
    assert_panels_agree(page, quick_data, steps[0])
    seen[steps[0]] = pixels(page)
    page.keyboard.press("ArrowRight")
    assert_panels_agree(page, quick_data, steps[1])
    box = page.locator("#slider").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    clicked = page.evaluate("grokinterpReplay.current().step")
    assert clicked in (steps[(len(steps) - 1) // 2], steps[len(steps) // 2])
    assert_panels_agree(page, quick_data, clicked)
    page.keyboard.press("ArrowLeft")  # the slider has the focus now
    assert page.evaluate("grokinterpReplay.current().step") == steps[steps.index(clicked) - 1]
    page.keyboard.press("End")
    assert_panels_agree(page, quick_data, steps[-1])

    assert all(seen[steps[0]][panel] != seen[steps[-1]][panel] for panel in seen[steps[0]])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []
    print(
        f"{len(steps)} snapshots: {file.stat().st_size / 1e6:.2f} MB, last redraw "
        f"{page.evaluate('grokinterpReplay.lastRedraw'):.1f} ms"
    )
    page.context.close()


COLOURED = """panel => {
    const canvas = document.querySelector('#panel-' + panel + ' canvas'), {width, height} = canvas;
    const {data} = canvas.getContext('2d').getImageData(0, 0, width, height), found = [];
    for (let i = 0; i < data.length; i += 4) {
        const [r, g, b, a] = data.slice(i, i + 4);
        const coloured = a > 200 && Math.max(r, g, b) - Math.min(r, g, b) > 60;
        if (coloured) found.push([i / 4 % width, Math.floor(i / 4 / width)]);
    }
    return found;
}"""
"""Where a panel has pixels that are not grey."""


@pytest.mark.browser
def test_what_is_drawn_has_the_shape_of_the_values(browser, quick, quick_data, tmp_path):
    file, data = tmp_path / "replay.html", quick_data.copy()
    data["picture.accuracy_by_answer"] = data["picture.accuracy_by_answer"].copy()
    data["picture.accuracy_by_answer"][-1] = 1.0
    file.write_text(replay_page(data, quick.history))
    page, _ = opened(browser, file, "#step=last")
    of_answers = "([canvas]) => canvas.closest('#panel-accuracy-by-answer')"
    said = page.evaluate(f"[...written].find({of_answers})[1].map((word) => word.text)")
    assert "1 for all 53 answers" in said  # in place of bars of one height
    assert page.evaluate(COLOURED, "accuracy-by-answer") == []
    keys = json.loads(quick_data.attrs["final_keys"])
    across, down = np.array(page.evaluate(COLOURED, "circles")).T
    # As wide as they are high: the circles of a grokked network.
    assert 0.7 < len(set(across)) / len(keys) / (down.max() - down.min()) < 1.3
    across, down = np.array(page.evaluate(COLOURED, "neurons-by-frequency")).T
    bars = down < down.max() - 8  # below are the dots of the keys
    columns = sorted(set(across[bars]))
    clusters = quick_data["neuron.clusters"].isel(step=-1).sel(freq=keys).values
    runs = np.split(columns, (np.diff(columns) > 1).nonzero()[0] + 1)
    tops = [down[bars & np.isin(across, run)].min() for run in runs]
    assert len(runs) == len(keys)
    assert np.corrcoef(tops, clusters)[0, 1] < -0.999  # pixels count downwards
    page.context.close()


@pytest.mark.browser
def test_step_and_phase_are_in_sight_and_the_moment_can_be_linked(browser, quick, quick_data, tmp_path):
    steps = [int(step) for step in quick_data["step"].values]
    file = tmp_path / "replay.html"
    file.write_text(replay_page(quick_data, quick.history, fake_phases(steps)))
    page, problems = opened(browser, file, f"#step={steps[1]}&x=log&panels=loss,circles")

    assert page.inner_text("#now") == f"step {steps[1]:,} · memorisation · snapshot 2 of {len(steps)}"
    assert page.locator("#slider").get_attribute("aria-valuetext") == page.inner_text("#now")
    assert page.evaluate("Object.keys(grokinterpReplay.current().panels)") == ["loss", "circles"]
    assert page.input_value("#axis") == "log"
    page.evaluate(f"location.hash = '#step={steps[-1] - 1}'")  # no snapshot: the nearest
    until(page, f"grokinterpReplay.current().step === {steps[-1]}")
    assert "formation" in page.inner_text("#now")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert page.locator("#now").bounding_box()["y"] < 100  # the bar sticks
    page.keyboard.press("Home")
    until(page, f"location.hash === '#step={steps[0]}'")
    page.click("summary:has-text('Choose panels')")
    page.uncheck("text=Accuracy")
    assert not page.is_visible("#panel-accuracy")
    until(page, "location.hash.includes('panels=loss,')")
    assert ",accuracy," not in page.evaluate("location.hash")
    assert "First it memorised" in page.inner_text("header")
    assert problems == []
    page.context.close()


@pytest.mark.browser
def test_play_hover_click_and_png(browser, quick, quick_data, tmp_path):
    steps = [int(step) for step in quick_data["step"].values]
    file = tmp_path / "replay.html"
    file.write_text(replay_page(quick_data, quick.history))
    page, problems = opened(browser, file, "#step=last")

    page.click("#play")  # at the end: from the beginning
    until(page, f"grokinterpReplay.current().step === {steps[2]}")
    until(
        page,
        f"grokinterpReplay.current().step === {steps[-1]} && document.getElementById('play').textContent "
        "=== '▶'",
    )
    loss = page.locator("#panel-loss canvas").bounding_box()
    page.mouse.click(loss["x"] + 70, loss["y"] + 100)
    assert page.evaluate("grokinterpReplay.current().step") in steps[:2]
    page.mouse.move(loss["x"] + loss["width"] - 30, loss["y"] + 100)
    assert page.inner_text("#tip").startswith(f"step {steps[-1]:,}\ntrain: ")
    page.hover("#panel-attention canvas", position={"x": 80, "y": 80})
    assert re.match(r"head 0\na = \d+, b = \d+: [\d.]+ share", page.inner_text("#tip"))
    rows = page.locator("#panel-loss .legend tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == list(expected(quick_data, steps[0])["loss"])
    assert all(row.endswith("nats") for row in rows)
    with page.expect_download() as download:
        page.click("#panel-loss .png")
    saved = Path(download.value.path()).read_bytes()
    assert (
        download.value.suggested_filename
        == f"run_loss_step{page.evaluate('grokinterpReplay.current().step')}.png"
    )
    assert saved.startswith(b"\x89PNG")
    assert len(saved) > 5_000
    assert problems == []
    page.context.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 800, 400])
def test_it_opens_at_the_start_with_an_invitation_and_nothing_is_cut_off(
    browser, quick, quick_data, tmp_path, width
):
    steps = [int(step) for step in quick_data["step"].values]
    file = tmp_path / "replay.html"
    file.write_text(replay_page(quick_data, quick.history, fake_phases(steps)))
    page, problems = opened(browser, file, "", width)
    assert page.evaluate("grokinterpReplay.current().step") == steps[0]
    if width == 400:
        assert page.locator("#bar").bounding_box()["height"] < 150  # it sticks: of 900
    invitation = page.locator("#invitation").bounding_box()
    assert invitation["y"] + invitation["height"] < 900  # in sight
    phases = page.locator("#phases button")
    assert phases.all_inner_texts() == ["memorisation", "circuit formation"]
    for name in phases.all():
        box = name.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
    assert page.locator("#phases [aria-current=true]").inner_text() == "memorisation"
    phases.last.click()
    assert page.evaluate("grokinterpReplay.current().step") == steps[len(steps) // 3]
    assert page.locator("#phases [aria-current=true]").inner_text() == "circuit formation"
    assert not page.is_visible("#invitation")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for key in ("Home", "End"):
        page.keyboard.press(key)
        page.evaluate("written.clear()")
        for scale in ("log", "linear"):  # which draws all again
            page.select_option("#axis", scale)
        assert page.evaluate(WRITTEN) == []
    assert problems == []
    page.context.close()


@pytest.mark.browser
def test_keys_play_step_loop_and_list_themselves(browser, quick, quick_data, tmp_path):
    steps = [int(step) for step in quick_data["step"].values]
    file = tmp_path / "replay.html"
    file.write_text(replay_page(quick_data, quick.history, fake_phases(steps)))
    page, problems = opened(browser, file)
    now = "grokinterpReplay.current().step"

    def press(*keys: str) -> None:
        for key in keys:
            page.keyboard.press(key)

    press("?")
    assert page.is_visible("#shortcuts")
    assert "loop" in page.inner_text("#shortcuts")
    press("ArrowRight")  # does nothing under the list
    press("?")
    assert not page.is_visible("#shortcuts")
    assert page.evaluate(now) == steps[0]
    press("+", "+", "+", "+")
    assert page.inner_text("#speed") == "8 ×"
    press("-")
    assert page.inner_text("#speed") == "4 ×"
    press("Space")
    assert page.get_attribute("#play", "aria-label") == "Pause"
    until(page, f"{now} === {steps[-1]} && document.getElementById('play').textContent === '▶'")
    press("l", "Space")
    assert page.is_checked("#loop")
    until(page, f"{now} === {steps[-1]}")
    until(page, f"{now} === {steps[1]}")  # again
    press("Space")
    assert page.get_attribute("#play", "aria-label") == "Play"
    stopped = page.evaluate(now)
    press("ArrowRight", "ArrowLeft")
    assert page.evaluate(now) in (stopped, steps[-2])
    page.focus("#slider")
    press("Home", "ArrowUp", "ArrowRight")
    assert page.evaluate(now) == steps[2]
    page.focus("#ask")
    press("Space")  # presses the button, plays nothing
    assert page.is_visible("#shortcuts")
    assert page.get_attribute("#play", "aria-label") == "Play"
    assert problems == []
    page.context.close()


@pytest.mark.browser
def test_the_slider_goes_over_snapshots_or_over_steps(browser, quick, quick_data, tmp_path):
    steps = [int(step) for step in quick_data["step"].values]
    file = tmp_path / "replay.html"
    file.write_text(replay_page(quick_data, quick.history, fake_phases(steps)))
    page, problems = opened(browser, file)
    now = "grokinterpReplay.current().step"

    def middle() -> int:
        box = page.locator("#slider").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        return page.evaluate(now)

    assert middle() in steps[(len(steps) - 1) // 2 : len(steps) // 2 + 1]
    of_snapshots = page.evaluate("document.getElementById('strip').style.background")
    page.select_option("#along", "steps")
    half = (steps[0] + steps[-1]) / 2
    assert abs(middle() - half) == min(abs(step - half) for step in steps)
    assert page.evaluate("document.getElementById('strip').style.background") != of_snapshots
    until(page, "location.hash.includes('slider=steps')")
    page.keyboard.press("Home")  # the slider has the focus
    page.keyboard.press("ArrowRight")
    assert page.evaluate(now) == steps[1]
    for choice, other in (("#axis", "log"), ("#along", "snapshots"), ("#along", "steps")):
        page.focus(choice)
        page.select_option(choice, other)
        page.keyboard.press("End")
        page.keyboard.press("ArrowLeft")
        assert page.evaluate(now) == steps[-2]
        assert page.input_value(choice) == other
        page.keyboard.press("Space")
        assert page.get_attribute("#play", "aria-label") == "Pause"
        page.keyboard.press("Space")
        page.keyboard.press("Home")
        assert page.evaluate(now) == steps[0]
    page.click("#phases button >> nth=1")  # nor does a button that was clicked
    page.keyboard.press("Space")
    assert page.get_attribute("#play", "aria-label") == "Pause"
    page.keyboard.press("Space")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.select_option("#axis", "linear")
    again, more = opened(browser, file, f"#step={steps[1]}&slider=steps")
    assert again.input_value("#along") == "steps"
    assert float(again.input_value("#slider")) == steps[1]
    assert problems == more == []
    again.context.close()
    page.context.close()


@pytest.mark.browser
def test_the_closest_pair_is_named_and_a_pair_says_since_when_it_is_right(
    browser, quick, quick_data, tmp_path
):
    file = tmp_path / "replay.html"
    file.write_text(replay_page(quick_data, quick.history))
    page, problems = opened(browser, file, "#step=last")
    marks = quick_data["picture.closest_answers" + FINAL].isel(step=-1)
    names = marks["result"].values.tolist()
    pair = f"{names[int(marks.argmax('result'))]} before {names[int(marks.argmin('result'))]}"
    row = page.locator("#panel-aliasing-gap-of-the-keys .legend tr").first.inner_text()
    assert row.endswith(f"logit, {pair}")
    since = right_since(quick_data).sel(a="0", b="0")
    canvas = page.locator("#panel-from-when-on-each-pair-is-right canvas")
    side = int(min(380, (int(canvas.bounding_box()["width"]) - 18) / 2 - 50))  # of each of the two maps
    unseen = bool(quick_data["picture.right"].sel(pairs="unseen", a="0", b="0").notnull().all())
    canvas.hover(position={"x": 57 + unseen * (side + 50), "y": 47})
    since = since.max("pairs")
    assert page.inner_text("#tip").startswith("a = 0, b = 0\nright for good since step")
    assert f"step {int(since):,}" in page.inner_text("#tip")
    assert problems == []
    page.context.close()


def odd(name: str, folder: Path) -> tuple[gi.Run, list[int] | None]:
    if name == "one snapshot":
        return gi.train(tiny(), folder / "run", progress=False), [-1]
    if name == "imported without split":
        run = gi.train(tiny(), folder / "first", progress=False)
        safetensors.torch.save_file(run.state_dict(-1), folder / "theirs.safetensors")
        task = {"name": "modular_addition", "p": 7}
        options = {"task": task, "forensics": False, "believe": True, "progress": False}
        return gi.import_checkpoint(folder / "theirs.safetensors", folder / "run", **options), None
    changed = {
        "group": {"task": {"name": "group_composition", "group": "S3"}},
        "no MLP": {"model.d_mlp": 0},
        "even": {"task.p": 4},
        "mse": {"training.loss": "mse"},
        "products": {"task.name": "modular_multiplication"},
    }[name]
    return gi.train(tiny(**changed), folder / "run", progress=False), None


@pytest.mark.browser
@pytest.mark.parametrize(
    "name", ["one snapshot", "imported without split", "group", "no MLP", "even", "mse", "products"]
)
def test_every_run_gets_a_sound_page(browser, name, tmp_path):
    run, steps = odd(name, tmp_path)
    data = gi.replay(run, [*PROGRESS, *PICTURES], steps)
    html = replay_page(data, run.history)
    assert len(re.findall(r"<dt>", html)) == len(re.findall(r"<dd>[^<]+</dd>", html))
    file = tmp_path / "replay.html"
    file.write_text(html)
    page, problems = opened(browser, file)
    assert {"loss", "accuracy", "weights"} <= page.evaluate("grokinterpReplay.current().panels").keys()
    page.focus("body")
    page.keyboard.press("Home")
    assert page.evaluate("grokinterpReplay.current().step") == int(data["step"][0])
    assert problems == []
    page.context.close()


@pytest.mark.browser
def test_steps_without_a_value_are_shown_as_such(browser, quick, quick_data, tmp_path):
    steps = [int(step) for step in quick_data["step"].values]
    holed = quick_data.map(
        lambda values: values.where(values["step"] != steps[0]) if values.dtype.kind == "f" else values,
        keep_attrs=True,
    )
    file = tmp_path / "replay.html"
    file.write_text(replay_page(holed, quick.history))
    page, problems = opened(browser, file, f"#step={steps[0]}")
    assert_panels_agree(page, holed, steps[0])
    assert page.locator("#panel-loss .legend td.value").all_inner_texts() == ["–"] * 4
    assert problems == []
    page.context.close()


@pytest.mark.browser
def test_a_page_that_is_being_rewritten_loads_itself_and_stays_at_the_end_or_where_it_was(
    browser, quick, quick_data, tmp_path
):
    file = tmp_path / "replay.html"

    def write(count, reload):  # whole or not at all: half a page would not load itself again
        new = tmp_path / "new.html"
        new.write_text(replay_page(quick_data.isel(step=slice(count)), quick.history, reload=reload))
        new.replace(file)

    write(2, 1)
    page, problems = opened(browser, file)
    write(3, 1)
    until(page, "document.getElementById('now').textContent.endsWith('snapshot 3 of 3')")
    page.keyboard.press("Home")
    write(4, 0)
    until(page, "document.getElementById('now').textContent.endsWith('snapshot 1 of 4')")
    assert problems == []
    page.context.close()


@pytest.mark.browser
@pytest.mark.slow
def test_the_shipped_run_makes_a_small_page_that_redraws_fast(browser, tmp_path):
    run = gi.load_run(SHIPPED)
    data = gi.replay(run, [*PROGRESS, *PICTURES])
    file = tmp_path / "replay.html"
    file.write_text(replay_page(data, run.history))
    page, problems = opened(browser, file)
    times = []
    for step in run.steps:
        page.evaluate(f"document.getElementById('slider').value = {run.steps.index(step)}")
        page.dispatch_event("#slider", "input")
        assert_panels_agree(page, data, step)
        times.append(page.evaluate("grokinterpReplay.lastRedraw"))
    print(
        f"{len(run.steps)} snapshots: {file.stat().st_size / 1e6:.2f} MB, redraw at most {max(times):.1f} ms"
    )
    assert file.stat().st_size < 15e6 * len(run.steps) / 100
    assert problems == []
    page.context.close()


# The command


def test_the_command_writes_page_and_data(tiny_run, grokinterp, tmp_path):
    code, out, err = grokinterp(
        "replay", tiny_run.path, "--measure", "logit_fve", "--data", tmp_path / "all.nc"
    )
    assert (code, out) == (2, "")
    assert "its variants are" in err
    code, out, err = grokinterp(
        "replay", tiny_run.path, "--measure", "gradient_symmetricity", "--data", tmp_path / "all.nc"
    )
    assert (code, err) == (0, "")
    page = tiny_run.path / "replay.html"
    assert f"Page: {page} (" in out
    assert "a + b mod 7: 3 snapshots, steps 0 to 20" in out
    assert contents(page.read_text())["steps"] == tiny_run.steps
    with xr.open_dataset(tmp_path / "all.nc", engine="h5netcdf") as written:
        again = gi.replay(tiny_run, [*PROGRESS, *PICTURES, "gradient_symmetricity"])
        xr.testing.assert_identical(written.load().drop_attrs(), again.drop_attrs())
        assert {name: (v.dtype, v.attrs["unit"]) for name, v in written.items()} == {
            n: (v.dtype, v.attrs["unit"]) for n, v in again.items()
        }
        assert written.attrs == again.attrs


def test_parquet_holds_the_small_numbers_as_columns(tiny_run, grokinterp, tmp_path):
    code, out, _ = grokinterp(
        "replay", tiny_run.path, "--step", "0", "--step", "-1", "--data", tmp_path / "t.parquet", "--json"
    )
    assert code == 0
    said = json.loads(out)
    assert said["steps"] == [0, 20]
    assert said["bytes"] == (tiny_run.path / "replay.html").stat().st_size
    table = pd.read_parquet(tmp_path / "t.parquet")
    data = gi.replay(tiny_run, steps=[0, 20])
    assert table.index.tolist() == [0, 20]
    assert table["loss[test]"].tolist() == data["loss"].sel(part="test").values.tolist()
    assert (
        table["attention.mean[0, 1, 2: =]"].tolist()
        == data["attention.mean"].sel(layer=0, head=1, pos="2: =").values.tolist()
    )
    assert table["circle.angle[3]"].tolist() == data["circle.angle"].sel(freq=3).values.tolist()
    assert table["key_frequencies.consensus[1]"].dtype == bool
    assert table.attrs["units"]["sum_of_squares[total]"] == "weight²"
    assert not [column for column in table if column.startswith(("picture.", "neuron.explained"))]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--data", "numbers.txt"], "numbers.txt: data are written as .nc (netCDF, everything), .parquet"),
        (["--watch", "--step", "3"], "--watch replays every snapshot: leave out --step"),
        (["--step", "3"], "has no snapshot at step 3; the nearest are at 0 and 10"),
        (["--measure", "nothing.known"], "unknown measure 'nothing.known'"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_one_line(tiny_run, grokinterp, options, line):
    code, out, err = grokinterp("replay", tiny_run.path, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert line in err
    assert not (tiny_run.path / "replay.html").exists()


def test_watching_a_finished_run_writes_its_page_once(tiny_run, grokinterp):
    code, out, err = grokinterp("replay", tiny_run.path, "--watch")
    assert code == 0
    assert err.count("\n") == 1
    assert "3 snapshots up to step 20" in err
    assert "the run is finished" in err
    assert contents((tiny_run.path / "replay.html").read_text())["reload"] == 0
    assert "Page: " in out


def start(*arguments: str | Path) -> subprocess.Popen:
    code = "from grokinterp.cli import main; main()"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], text=True, env={**os.environ,
        "OMP_NUM_THREADS": "1"}, **pipes,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
         # tests in the background of a shell ignore it
    )  # fmt: skip


def training(out: Path, steps: int, every: int) -> subprocess.Popen:
    """A process that trains a small network with a snapshot now and then, once it has committed the first."""
    sizes = [
        "task.p=23",
        "model.d_model=32",
        "model.n_heads=4",
        "model.d_mlp=64",
        "training.stop_when=",
        "snapshots.log=",
    ]
    settings = [*sizes, f"training.steps={steps}", f"snapshots.every={every}", "threads=1"]
    trainer = start(
        "train",
        "modular_addition",
        "--preset",
        "quick",
        "--out",
        out,
        *(word for text in settings for word in ("--set", text)),
    )
    manifest = out / "manifest.jsonl"
    wait(lambda: (manifest.exists() and b"\n" in manifest.read_bytes()) or trainer.poll() is not None)
    return trainer


def wait(true, seconds: float = 600) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("steps", "every", "versions"),
    [(1_000, 200, 2), pytest.param(60_000, 1_000, 10, marks=pytest.mark.slow)],
    ids=["seconds", "a minute"],
)
def test_trainer_and_watch_together_the_page_grows_and_is_always_whole(tmp_path, steps, every, versions):
    run, page = tmp_path / "run", tmp_path / "watched.html"
    trainer = training(run, steps, every)
    trainer.send_signal(
        signal.SIGSTOP
    )  # until there is a page: a training of seconds would be over before the watcher is up
    watcher = start("replay", run, "--watch", "--out", page)
    wait(lambda: page.exists() or watcher.poll() is not None)
    trainer.send_signal(signal.SIGCONT)
    seen: list[tuple[int, int]] = []
    while watcher.poll() is None:
        if page.exists():
            content = contents(page.read_text())  # not JSON, were the page torn
            if (now := (len(content["steps"]), content["reload"])) not in seen:
                seen.append(now)
        time.sleep(0.02)
    out, err = watcher.communicate()
    assert trainer.wait() == 0, trainer.stderr.read()
    trainer.communicate()
    assert watcher.returncode == 0, err
    assert seen == sorted(seen, key=lambda version: version[0])
    assert len(seen) >= versions
    assert all(reload > 0 for _, reload in seen[:-1])
    assert seen[-1] == (len(gi.load_run(run).steps), 0)
    assert len(err.splitlines()) >= len(seen)
    assert "damaged" not in err
    assert f"{seen[-1][0]} snapshots" in out


def test_ctrl_c_ends_watching_and_leaves_a_page_that_does_not_load_itself(tmp_path):
    run, page = tmp_path / "run", tmp_path / "watched.html"
    trainer = training(run, 1_000_000, 500)
    watcher = start("replay", run, "--watch", "--out", page)
    wait(page.exists)
    trainer.kill()
    trainer.communicate()
    assert contents(page.read_text())["reload"] > 0
    watcher.send_signal(signal.SIGINT)
    out, err = watcher.communicate(timeout=600)
    assert watcher.returncode == 0, err
    assert err.endswith("stopped\n")
    assert "Traceback" not in err
    assert contents(page.read_text())["reload"] == 0
    assert f"Page: {page}" in out


@pytest.mark.parametrize(
    "name", ["run.json", "manifest.jsonl", "snapshots/page.html", "replay/page.html", "../tiny/metrics.jsonl"]
)
@pytest.mark.parametrize("option", ["--out", "--data"])
def test_what_a_run_is_made_of_is_never_overwritten(grokinterp, tiny_run, name, option):
    before = {file: file.read_bytes() for file in tiny_run.path.rglob("*") if file.is_file()}
    target = tiny_run.path / (name + ".nc" if option == "--data" and "page" in name else name)
    code, out, err = grokinterp("replay", tiny_run.path, option, target)
    assert (code, out) == (2, "")
    assert "belongs to the run in" in err or "are written as .nc" in err
    assert {file: file.read_bytes() for file in tiny_run.path.rglob("*") if file.is_file()} == before
