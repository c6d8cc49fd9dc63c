"""No two sentences contradict one another: of real short trainings of many kinds, what the report's page, its
claims, report.json, the phases, `compare` and the summary on the terminal say is read by a reader of its own
and held against the accuracies.

Which kind a training becomes is left to the processor; what is said of it must be of one piece whatever it
becomes.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import grokinterp as gi
from conftest import tiny
from grokinterp import controls
from grokinterp.errors import GrokinterpError
from grokinterp.measures.standing import Share, wilson
from grokinterp.report import page
from grokinterp.report.analysis import analysis_of
from grokinterp.report.panels import OPENINGS
from test_report import text_of

SMALL = {
    "model.d_model": 32,
    "model.d_mlp": 64,
    "training.fraction": 0.6,
    "training.lr": 1e-2,
    "snapshots.every": 50,
    "training.stop_when": None,
}


def trained(out: Path, start: Any = None, **overrides: object) -> gi.Run:
    return gi.train(tiny(**{**SMALL, **overrides}), out, start=start, progress=False)


def until(level: float):
    return lambda out: trained(
        out,
        **{
            "task.p": 13,
            "training.steps": 400,
            "training.stop_when": f"test_accuracy >= {level}",
            "training.evaluate_every": 2,
        },
    )


def forgotten(out: Path) -> gi.Run:
    """A network that has learned the rule goes on with a tenth of the examples (Varma et al. 2023, arXiv
    2309.02390)."""
    until_learned = {"training.steps": 3000, "training.stop_when": "test_accuracy >= 1 for 20"}
    first = trained(out / "first", **{"task.p": 13, "training.fraction": 0.8, **until_learned})
    assert first.finished is not None
    assert "was reached" in first.finished["reason"]
    options = {"task.p": 13, "training.steps": 300, "training.fraction": 0.1, "training.weight_decay": 4.0}
    return trained(out / "then", start=str(first.path), **options)


def diverged(out: Path) -> gi.Run:
    options = {
        "task.p": 11,
        "training.lr": 1e5,
        "training.optimizer": "sgd",
        "training.weight_decay": 0.0,
        "training.steps": 50,
    }
    with pytest.raises(GrokinterpError):
        trained(out, **options)
    return gi.load_run(out)


def imported(out: Path) -> gi.Run:
    """One network without its history, its training set or its step."""
    run = trained(out / "run", **{"task.p": 13, "training.steps": 300})
    torch.save(run.state_dict(run.steps[-1]), out / "theirs.pt")
    return gi.import_checkpoint(
        out / "theirs.pt", out / "imported", task="modular_addition", forensics=False, believe=True
    )


DOSHI = {
    "training.steps": 150,
    "snapshots.every": 50,
    "training.stop_when": None,
    "snapshots.log": None,
    "threads": 1,
}
KINDS = {
    "chance": lambda out: trained(out, **{"task.p": 11, "training.lr": 1e-7, "training.steps": 60}),
    "memorised": lambda out: trained(
        out, **{"task.name": "random_table", "task.p": 13, "training.weight_decay": 0.0,
        "training.steps": 150}
    ),
    "memorised with its mirror images": lambda out: trained(
        out, **{"task.p": 17, "training.weight_decay": 0.0, "training.fraction": 0.4, "training.steps": 150}
    ),
    "half-way": until(0.5),
    "97 %": until(0.95),
    "99.5 %": until(0.995),
    "grokked": None,
    "forgotten": forgotten,
    "diverged": diverged,
    "noisy labels": lambda out: gi.train(
        gi.TrainConfig.preset(
            "doshi", **{**DOSHI, "task.p": 23, "model.d_mlp": 128, "task.noise": {"kind": "uniform",
            "share": 0.35, "seed": 0}}
        ),
        out, progress=False,
    ),
    "noise memorised": lambda out: trained(
        out, **{"task.p": 11, "training.weight_decay": 0.0, "training.steps": 150,
        "task.noise": {"kind": "binomial", "seed": 1}}
    ),
    "a group": lambda out: trained(
        out, **{"task": {"name": "group_composition", "group": "S3"}, "training.steps": 150, "task.p": None}
    ),
    "p = 64": lambda out: trained(out, **{"task.p": 64, "training.steps": 60, "model.d_model": 16}),
    "p = 2": lambda out: trained(out, **{"task.p": 2, "training.steps": 20, "training.fraction": 0.75,
    "training.weight_decay": 0.0}),
    "multiplication": lambda out: trained(out, **{"task.name": "modular_multiplication", "task.p": 13,
    "training.steps": 200}),
    "imported with one snapshot": imported,
}  # fmt: skip


@pytest.fixture(scope="module")
def run_of(tmp_path_factory, quick_run):
    @functools.cache
    def made(kind: str) -> gi.Run:
        make = KINDS[kind]
        return quick_run if make is None else make(tmp_path_factory.mktemp("said") / "run")

    return made


class Said:
    """Everything that is said of a run at one step, as text and as JSON."""

    def __init__(self, run: gi.Run, step: int = -1) -> None:
        report = gi.analyze(run, step, progress=False)
        self.report: dict[str, Any] = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        self.page = " ".join(text_of(report.to_html()).split())
        self.verdict = self.page.split("Accuracy", 1)[0].split("?", 1)[1]
        self.claims = {claim["claim"]: claim for claim in self.report["claims"]}
        compared = gi.compare([run])
        self.compared: dict[str, Any] = json.loads(json.dumps(compared.to_dict(), allow_nan=False))["runs"][0]
        self.table = compared.table.iloc[0]
        self.training: dict[str, Any] = self.report["training"]
        self.history = run.history
        self.replayed = bool(report.analysis.replayed)
        self.is_last = report.analysis.is_last
        self.noisy = run.task.noise is not None


def claim(said: Said, words: str) -> str:
    """The verdict of a claim; that it was not asked is that it was not tested."""
    verdicts = [each["verdict"] for sentence, each in said.claims.items() if sentence.startswith(words)]
    return verdicts[0] if verdicts else "not tested"


def contradictions(said: Said) -> list[str]:
    """Where two of the things said of a run cannot both be true; each with what they are."""
    found: list[str] = []

    def same(what: str, *sides: object) -> None:
        if len(set(map(str, sides))) > 1:
            found.append(f"{what}: {sides}")

    report, state, level = said.report, said.report["state"], said.report["standing"]["needed"]
    shares = report["standing"]["shares"]
    test = shares.get("test", {}).get("right")

    # The state is of the accuracies, and everything else is of the state.
    generalises = test is not None and test >= level and shares["test"]["low"] > report["standing"]["chance"]
    same(
        "generalises",
        generalises,
        state == "generalises",
        report["generalised"],
        report["standing"]["state"] == "generalises",
    )
    same("yes", generalises, " Yes: " in said.verdict)
    same("claim: it generalises", {None: "not tested", True: "supported",
    False: "refuted"}[None if test is None else generalises],
         claim(said, "It generalises to pairs"))  # fmt: skip
    same("in part", state == "learning", " In part: " in said.verdict)
    same("no", state in ("memorises", "at chance"), " No: " in said.verdict)
    if not said.noisy:
        same(
            "memorises",
            state == "memorises" and test is not None,
            claim(said, "It has only memorised") == "supported",
        )
    if state == "learning":
        same("times chance", f"{test / report['standing']['chance']:.3g} times chance" in said.verdict, True)
        same("above chance", test > report["standing"]["chance"], True)
    if test is not None:
        name = "clean_accuracy" if said.noisy else "accuracy"
        same("accuracy", round(test, 9), round(report["measures"][name]["value"][1], 9))

    # Shares in the verdict are those of the values.
    for shown in re.findall(r"([\d.]+) % of (?:unseen|its training|training|all)", said.verdict):
        if not any(abs(float(shown) - 100 * share["right"]) < 0.051 for share in shares.values()):
            found.append(f"the verdict says {shown} %, and the shares are {shares}")

    # Evidence shows which side of its limit a number is on; a claim holds where all its numbers do.
    for sentence, each in said.claims.items():
        limits = [re.fullmatch(r".* = (\S+), needs (<=|<|>=|>) (\S+)", words) for words in each["evidence"]]
        held = [
            {"<=": x <= y, "<": x < y, ">=": x >= y, ">": x > y}[m[2]]
            for m in limits
            if m
            for x, y in [(float(m[1]), float(m[3]))]
        ]
        if held and each["verdict"] != "not tested":
            same(sentence, all(held), each["verdict"] == "supported")
        if any("no algorithm" in words for words in each["evidence"]):
            nothing_to_ask = state in ("at chance", "memorises") or not report["key_frequencies"]["used"]
            on_circle_only = "multiplication" in str(report["task"].get("name"))
            same(f"{sentence}: nothing to ask", nothing_to_ask or on_circle_only, True)
    both = ["Attention is uniform", "Attention depends"], ["It computes as a clock", "It computes as a pizza"]
    for pair in both:
        if all(claim(said, words) == "supported" for words in pair):
            found.append(f"both supported: {pair}")
    counts = [
        sum(each["verdict"] == v for each in said.claims.values())
        for v in ("supported", "refuted", "not tested")
    ]
    same("counts", f"{counts[0]} supported, {counts[1]} refuted, {counts[2]} not tested" in said.page, True)

    # What was found, in one sentence, against what it is made of.
    sentence = report["found"]
    same("found: one sentence", (sentence[0].isupper(), sentence[-1], "\n" in sentence), (True, ".", False))
    nothing = bool(re.search("by chance|by heart", sentence))
    same("found: nothing was learned", state in ("at chance", "memorises"), nothing)
    same("found: by heart", state == "memorises", "by heart" in sentence)
    if "not trained yet" in sentence:
        same("found: not trained", report["step"], 0)
    if nothing:
        same(
            "found: so and no more",
            re.findall("circle|formed|clock|pizza|waves|right|represent", sentence),
            [],
        )
    if circles := re.search(r"on (\d+) circles?(?: of Z_\d+)?, k = ([\d ]+)", sentence):
        used = report["key_frequencies"]["used"]
        same("found: circles", circles[1], len(used))
        same("found: keys", circles[2], " ".join(map(str, used)))
        same("found: sufficient", claim(said, "The key frequencies are sufficient"), "supported")
        same("found: necessary", claim(said, "The key frequencies are necessary"), "supported")
    for one, other in (("clock", "pizza"), ("pizza", "clock")):
        if f"a {one}, not a {other}" in sentence:
            same(f"found: {one}", claim(said, f"It computes as a {one}"), "supported")
            same(f"found: no {other}", claim(said, f"It computes as a {other}"), "refuted")
    if "neither a clock" in sentence:
        same(
            "found: neither",
            [claim(said, f"It computes as a {x}") for x in ("clock", "pizza")],
            ["refuted"] * 2,
        )
    same("found: clock and by rotating", "a clock, not" in sentence, "by rotating" in sentence)
    if formed := re.search(
        r"formed between steps ([\d,]+) and ([\d,]+)(?:, at least ([\d,]+) steps before)?", sentence
    ):
        after, by = (int(text.replace(",", "")) for text in formed.groups()[:2])
        boundary = next(b for b in said.training["boundaries"] if b["name"] == "circuit formed")
        same("found: formed", (after, by), (boundary["after"], boundary["by"]))
        same("found: formed by then", by <= report["step"], True)
        if formed[3]:
            lead = said.training["steps_to_99"]["test"]["after"] - by
            same("found: lead", int(formed[3].replace(",", "")), lead)
    if "generalises" in sentence and not said.noisy:
        same("found: generalises", state, "generalises")
    if "in part" in sentence or "learned a part" in sentence:
        same(
            "found: in part",
            state in ("learning", "not known") or "multiplication" in str(report["task"]),
            True,
        )

    # What the run was as a whole, against its evaluations.
    column = "test_clean_accuracy" if said.noisy else "test_accuracy"
    curve = said.history[column].dropna()
    kind, sentence = said.training["kind"], said.training["sentence"]
    if said.replayed:
        same("kind in its sentence", sentence[1:] in said.page, True)
    if len(curve) > 1:
        told = (
            bool(shares)
            and test is not None
            and wilson(1.0, shares["test"]["n"])[0] > report["standing"]["chance"]
        )
        learned = ("groks", "generalises at once", "generalises")
        if told:  # else all of so few examples may be right by chance
            forgot_all = kind == "forgets again" and "generalises and forgets" in sentence
            same("ever 99 %", bool(curve.max() >= 0.99), kind in learned or forgot_all)
        if kind in ("groks", "generalises at once") and curve.iloc[-1] < level:
            same(
                f"{kind}, and {curve.iloc[-1]} at the end, which the sentence says",
                bool(re.search(r"below|falls|fell|is at", sentence)),
                True,
            )
    if said.is_last:
        now = said.compared["standing"]["state"]
        same("compare", now if test is not None else state, state if now != "not known" else now)
        if state in ("learning", "generalises") and kind in ("memorises only", "learns nothing"):
            found.append(f"{kind}, and {state} at the end")
        if state == "at chance" and kind in ("memorises only", "groks", "generalises at once"):
            found.append(f"{kind}, and at chance at the end")
        if state == "memorises" and kind == "learns nothing":
            found.append(f"{kind}, and memorises")

    # Steps to 99 %: JSON of report and of compare, the table, the sentence in the head.
    for part in ("train", "test"):
        own, compared = said.training["steps_to_99"][part], said.compared["steps_to_99"][part]
        same(f"steps to 99 % of {part}", own, compared)
        values = said.history[column if part == "test" else "train_accuracy"].dropna()
        if len(values) and own["state"] != "not known":
            same(f"{part} reached", bool((values >= 0.99).any()), own["by"] is not None)
        same(f"{part} censored", own["state"] == "censored", bool(said.table[f"{part}_censored"]))
        same(
            f"{part} left-censored", own["state"] == "at or before", bool(said.table[f"{part}_left_censored"])
        )
    if said.training["steps_to_99"]["test"]["state"] == "reached" and len(curve) > 1:
        same("when", "test accuracy had not" in said.page, False)

    # Phases do not overlap, and lie within the run.
    spans = list(report["phases"].values())
    if any(a[1] != b[0] for a, b in itertools.pairwise(spans)) or any(a > b for a, b in spans):
        found.append(f"phases: {report['phases']}")
    if kind == "learns nothing" and report["phases"]:
        found.append(f"learns nothing, and has the phases {report['phases']}")
    same(
        "no NaN",
        any(isinstance(x, float) and not math.isfinite(x) for x in shares.values() if isinstance(x, float)),
        False,
    )
    return found


LIKE_ANOTHER = ("99.5 %", "p = 64")
"""Kinds of which most is said as of another one."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in LIKE_ANOTHER)) for kind in KINDS]
)
def test_no_two_sentences_contradict_one_another(run_of, kind):
    run = run_of(kind)
    assert contradictions(Said(run)) == []


@pytest.mark.parametrize("kind", ["97 %", "memorised", "grokked"])
def test_nor_do_they_of_a_snapshot_on_the_way(run_of, kind):
    run = run_of(kind)
    for step in {run.steps[0], run.steps[len(run.steps) // 2]}:
        said = Said(run, step)
        assert contradictions(said) == []
        if step != run.steps[-1]:
            assert "not its last snapshot" in said.page


def test_the_reader_finds_a_contradiction_where_there_is_one(run_of):
    """The control: one sentence changed at a time, each is noticed."""
    said = Said(run_of("memorised"))
    assert contradictions(said) == []
    first, second = list(said.claims)[:2]
    for change in (
        lambda s: setattr(s, "verdict", s.verdict.replace(" No: ", " Yes: ")),
        lambda s: s.report.update(state="learning"),
        lambda s: s.report.update(generalised=True),
        lambda s: s.claims[first].update(verdict="supported"),
        lambda s: s.claims[second].update(verdict="refuted"),
        lambda s: s.report.update(found="It generalises."),
        lambda s: s.report.update(found=s.report["found"][:-1] + "; a clock, not a pizza."),
        lambda s: s.training.update(kind="groks"),
        lambda s: s.compared["standing"].update(state="generalises"),
        lambda s: s.training["steps_to_99"]["test"].update(state="reached", by=50),
        lambda s: setattr(s, "verdict", re.sub(r"[\d.]+ % of its", "12.3 % of its", s.verdict)),
    ):
        changed = copy.deepcopy(said)
        change(changed)
        assert contradictions(changed), "this contradiction was not noticed"


OF_FRESH = {
    "training.data": "fresh", "training.batch_size": 16, "snapshots.log": None, "snapshots.every": 10,
    "training.steps": 20, "training.stop_when": None, "training.evaluate_every": 2, "threads": 1,
}  # fmt: skip
OTHERS = {
    "sums of digits": {"task.name": "digit_addition", "task.n": 2, "task.examples": 64, "task.per_class": 4},
    "words": {"task.name": "reverse", "task.examples": 64},
    "points": {"task.name": "point_slope", "training.data": None, "training.batch_size": None},
    "images": {"task.name": "line_images", "task.size": 8, "task.slopes": 4, "task.examples": 64},
    "matrices": {"task.name": "matrix_transpose", "task.examples": 64},
    "fractions": {"task.name": "plain_division", "task.p": 7, "training.data": None,
    "training.batch_size": None, "model.d_mlp": 16},
}  # fmt: skip
SAYS = {
    "sums of digits": "The loss ",
    "words": "The loss ",
    "points": "The embedding ",
    "images": "images .* keep their answer whichever one pixel is flipped",
    "matrices": "It is right .* matrices",
    "fractions": "Of .* unseen pairs",
}
"""How the sentence on a network that has learned its task begins, or what is in it."""


@pytest.mark.parametrize("kind", OTHERS)
def test_other_families_say_what_their_reports_open_with_once_something_was_learned(kind, tmp_path):
    changes = {**OF_FRESH, **OTHERS[kind]}
    sizes = {"model.d_model": 16, "model.n_heads": 2, "model.n_layers": 1}
    sizes = {} if "model.d_mlp" in changes else sizes
    config = gi.TrainConfig.of_task(changes.pop("task.name"), **sizes, **changes)
    run = gi.train(config, tmp_path / "run", progress=False)
    opens = OPENINGS.applying_to(run.task.families)
    asked = {name for each in opens for name in each.needs if gi.MEASURES[name].applies_to(run.task)}
    a = analysis_of(run, -1, [*asked, "loss"], None, False, False)
    nothing = "It answers no better than by chance.", "It knows a part of"
    if a.standing.state in ("at chance", "memorises"):
        assert a.found.startswith(nothing)
    shares = {part: Share.of(1.0, 1000) for part in a.standing.shares}
    a.__dict__["standing"] = dataclasses.replace(a.standing, shares=shares)
    assert re.search(SAYS[kind], a.found)
    assert a.found[0] == a.found[0].upper()
    assert a.found.endswith(".")
    assert not a.found.startswith(nothing)
    if (section := page.opening(a)) is not None:
        assert a.found.casefold() == section.lead.casefold()


OF_CONTROLS = {
    "clock": "It adds by rotating on 2 circles, k = 2 5; a clock, not a pizza.",
    "pizza": "It adds by averaging on 2 circles, k = 2 5; a pizza, not a clock.",
    "gromov": "It generalises; its neurons are waves of one frequency each, and none of 11 frequencies "
    "stands out.",
    "lookup": "It generalises; none of 11 frequencies stands out.",
    "memoriser": "It knows its training pairs by heart, and unseen ones no better than by chance.",
    "random_network": "It answers no better than by chance.",
}
FURTHER = {"clock": ((2, 5),), "pizza": ((2, 5),), "gromov": (500,)}


@pytest.mark.parametrize("name", OF_CONTROLS)
def test_of_a_network_whose_algorithm_is_known_it_is_that_one_that_is_found(name, tmp_path, monkeypatch):
    known = getattr(controls, name)(23, *FURTHER.get(name, ()))
    run = gi.train(tiny(**{"task.p": 23}), tmp_path / "run", progress=False)
    split = run.split if known.split is None else known.split
    monkeypatch.setattr(gi.Run, "view", lambda self, step: gi.view(known.model, known.task, 20, split))
    decide = [
        "gradient_symmetricity", "distance_irrelevance.correct", "restricted_loss.logit_dirs",
        "excluded_loss.logit_dirs", "neuron.single_frequency_share", "logit_fve.centred",
    ]  # fmt: skip
    assert analysis_of(run, -1, decide, None, False, False).found == OF_CONTROLS[name]
