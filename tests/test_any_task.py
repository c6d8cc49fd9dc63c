"""Tasks that are no tables of pairs are trained, resumed and measured: on fresh examples or on a share of a
sample, with one answer or with several."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property

import pytest
import torch

import grokinterp as gi
from grokinterp.errors import ConfigError, NotApplicable, UsageError
from grokinterp.measures import MEASURES
from grokinterp.measures.base import measure
from grokinterp.models import ModelConfig
from grokinterp.tasks import TASKS, Operation, Sample, make_task
from grokinterp.tasks.majority import Majority
from grokinterp.tasks.reverse import Reverse
from grokinterp.training import TrainConfig, Trainer
from grokinterp.training.batched import kind

TOL = {"rtol": 0, "atol": 1e-12}


def config(name: str, **overrides: object) -> TrainConfig:
    """A small transformer on fresh examples, in float64."""
    values = {
        "task": {"name": name, "examples": 512},
        "model": {"d_model": 32, "n_heads": 4, "d_mlp": 64, "n_layers": 2 if name == "reverse" else 1},
        "training": {
            "data": "fresh",
            "batch_size": 64,
            "lr": 3e-3,
            "weight_decay": 0.01,
            "steps": 12,
            "evaluate_every": 4,
            "dtype": "float64",
        },
        "snapshots": {"every": 4, "events": ()},
        "threads": 1,
    }
    return TrainConfig.make(values, **overrides)


def finite(name: str, **overrides: object) -> TrainConfig:
    """The same on a share of the sample."""
    fresh = config(name).model_dump(mode="json", exclude_none=True)
    del fresh["training"]["data"], fresh["training"]["batch_size"]
    return TrainConfig.make(fresh, **overrides)


def last(trainer: Trainer) -> dict[str, torch.Tensor]:
    for _ in trainer:
        pass
    return {name: weight.detach().clone() for name, weight in trainer.weights.items()}


# Training


@pytest.mark.trains
@pytest.mark.parametrize(("name", "accuracy"), [("majority", 0.9), ("reverse", 0.99)])
def test_it_is_learned_from_fresh_examples(tmp_path, name, accuracy):
    until = f"test_accuracy >= {accuracy}"
    run = gi.train(
        config(name, **{"training.steps": 1500, "training.batch_size": 256, "training.stop_when": until}),
        tmp_path / "run",
        progress=False,
    )
    assert run.finished["reason"] == f"{until} was reached"
    assert len(run.split.train) == 0
    assert len(run.split.test) == 512


@pytest.mark.trains
def test_a_finite_set_is_learned_by_heart(tmp_path):
    options = {
        "task.examples": 60,
        "training.steps": 300,
        "training.weight_decay": 0.0,
        "training.fraction": 0.5,
    }
    run = gi.train(finite("reverse", **options), tmp_path / "run", progress=False)
    assert run.history["train_exact"].iloc[-1] == 1
    assert run.history["test_exact"].iloc[-1] < 1


@pytest.mark.parametrize("make", [config, finite])
@pytest.mark.parametrize("name", ["majority", "reverse"])
def test_a_resumed_run_ends_with_the_same_bytes_at_any_number_of_threads(make, name):
    whole = last(Trainer(make(name)))
    for threads in (1, 2):
        trainer = Trainer(make(name, threads=threads))
        state = next(trainer.state() for snapshot in trainer if snapshot.step == 4)
        resumed = last(Trainer(make(name, threads=threads), state))
        for key, weight in whole.items():
            assert torch.equal(weight, resumed[key]), key


def test_a_run_on_fresh_examples_is_a_run_directory_like_any(grokinterp, tmp_path):
    run = gi.train(config("reverse"), tmp_path / "run", progress=False)
    assert run.steps == [0, 4, 8, 12]
    assert grokinterp("verify", run.path)[0] == 0
    again = gi.load_run(run.path)
    torch.testing.assert_close(again.view(-1).logits, run.view(-1).logits, **TOL)
    answers = [f"test_loss.y{i}" for i in range(1, 7)]
    history = again.history.iloc[-1]
    assert history["test_loss"] == pytest.approx(history[answers].mean(), rel=1e-9)


DRAWN: list[torch.Tensor] = []


@dataclass(frozen=True)
class Watched(Majority):
    """A task that says what it drew."""

    def draw(self, n, generator):
        sample = super().draw(n, generator)
        DRAWN.append(sample.inputs)
        return sample


def watched() -> Watched:
    return Watched(n=8, v=5, examples=100, sample_seed=0)


def test_no_two_updates_learn_from_the_same_examples_and_two_seeds_not_from_the_same(monkeypatch):
    monkeypatch.setitem(TASKS, "watched", watched)
    DRAWN.clear()
    for seed in (0, 1):
        last(Trainer(config("majority", seed=seed, task={"name": "watched"})))
    batches = {tuple(inputs.flatten().tolist()) for inputs in DRAWN if len(inputs) == 64}
    assert len(batches) == 2 * 13  # two seeds, twelve updates and an evaluation after the last


def text_of(page: str) -> str:
    """What a page says, without what draws it."""
    return " ".join(re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL).split())


@pytest.mark.parametrize("make", [config, finite])
@pytest.mark.parametrize("name", ["majority", "reverse"])
def test_it_has_a_report_and_a_replay_page_that_say_nothing_of_frequencies(grokinterp, tmp_path, name, make):
    run = gi.train(make(name, **{"task.examples": 128}), tmp_path / "run", progress=False)
    for command in ("analyze", "replay"):
        code, out, err = grokinterp(command, run.path)
        assert (code, err) == (0, "")
        page = text_of((run.path / f"{'report' if command == 'analyze' else command}.html").read_text())
        for said in (out, page):
            assert not re.search(r"requenc|\bkeys?\b|circle|operand", said)
    report = json.loads((run.path / "report.json").read_text())
    assert report["schema"] == 2
    assert not report.keys() & {"table", "key_frequencies", "noise"}
    assert all("too few" in reason for reason in report["skipped"].values())
    unseen = " unseen " in report["standing"]["words"] + report["training"]["sentence"]
    assert unseen == (make is finite)
    shown = text_of((run.path / "report.html").read_text())
    factors = ("count", "margin") if name == "majority" else ("x1", "x6")
    assert all(f"By {factor}" in shown for factor in factors)
    if name == "reverse":
        assert all(f"y{i}" in shown for i in range(1, 7))
        of_parts = report["measures"]["loss"]["value"]
        assert report["loss"]["all"] == pytest.approx(sum(row[-1] for row in of_parts) / 6, rel=1e-12)


def test_every_answer_has_to_be_right():
    task = make_task("reverse", n=3, v=2, examples=40)
    network = TrainConfig.make(
        {"task": {"name": "reverse", "n": 3, "v": 2}, "model": {"d_model": 8, "n_heads": 2, "d_mlp": 8}}
    ).model
    view = gi.View.of_weights(task, network, network.initial_weights(task.reads, 1))
    given = torch.stack([view.at(answer).logits.argmax(1) for answer in view.answers], 1)
    right = task.right(given)["exact"]
    assert 0 < right.sum() < 40
    assert torch.equal(view.all_right(), right)
    assert float(gi.measure("accuracy.exact", view).sel(part="all")) == float(right.double().mean())
    assert task.chance == pytest.approx(float(task.targets.unique(dim=0, return_counts=True)[1].max()) / 40)
    assert not MEASURES["accuracy.exact"].applies_to(make_task("majority"))


def test_a_part_is_ablated_where_its_answer_is_read(run):
    view, model = run.view(-1).at("y2"), run.model(-1).double()
    at = run.task.reads.positions[1]

    def zero(z, hook):
        z[:, at, 1] = 0
        return z

    with torch.no_grad():
        logits = model.run_with_hooks(run.task.inputs, fwd_hooks=[("blocks.1.attn.hook_z", zero)])
    expected = torch.nn.functional.cross_entropy(logits[:, at, :10], run.task.targets[:, 1])
    found = gi.ablate(view, "head", (1, 1), how="zero", draws=0).after.loss["all"]
    assert found == pytest.approx(float(expected), rel=1e-4)


# The numbers: a second route


def mean_loss(model: torch.nn.Module, task, inputs, answers) -> torch.Tensor:
    """Cross-entropy over all answers that are asked, by HookedTransformer and torch alone."""
    logits = model(inputs)[:, list(task.reads.positions)][..., : task.n_answers]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=-1)


@pytest.mark.parametrize("asked", [1.0, 0.5])
def test_loss_and_gradient_are_those_of_the_plain_network(asked, monkeypatch):
    """With several answers, of which some may not be asked."""
    task = make_task("reverse", examples=512)
    answers = task.sample.answers.clone()
    if asked < 1:
        answers[torch.rand(answers.shape, generator=torch.Generator().manual_seed(1)) > asked] = -1
    odd = replace(task)
    odd.__dict__["sample"] = Sample(task.sample.inputs, answers)
    monkeypatch.setattr(TrainConfig, "make_task", lambda self: odd)
    trainer = Trainer(finite("reverse"))
    metrics = next(iter(trainer)).metrics
    model = trainer.config.model.hooked(odd.reads, trainer.weights, torch.float64)
    rows = trainer.split.train
    loss = mean_loss(model, odd, odd.inputs[rows], answers[rows])
    assert metrics["train_loss"] == pytest.approx(loss.item(), rel=1e-10)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    names = list(trainer.weights)
    parameters = dict(model.named_parameters())
    expected = torch.autograd.grad(
        mean_loss(model, odd, odd.inputs[rows], answers[rows]), [parameters[n] for n in names]
    )
    with torch.no_grad():
        gradients = trainer._examples.gradients(None)
    for name, gradient in zip(names, expected, strict=True):
        if name in gradients:
            torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=1e-12)
    given = model(odd.inputs)[:, list(odd.reads.positions)][..., : odd.n_answers].argmax(-1)
    right, test = given == answers, trainer.split.test
    counted = answers[test] >= 0
    assert metrics["test_accuracy"] == pytest.approx(float(right[test][counted].double().mean()), abs=1e-12)
    assert metrics["test_exact"] == pytest.approx(
        float(odd.right(given)["exact"][test][counted.any(1)].double().mean()), abs=1e-12
    )
    for i, answer in enumerate(odd.reads.answers):
        part = right[test, i][counted[:, i]]
        assert metrics[f"test_accuracy.{answer}"] == pytest.approx(float(part.double().mean()), abs=1e-12)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return gi.train(config("reverse"), tmp_path_factory.mktemp("reverse") / "run", progress=False)


@pytest.mark.parametrize("hooked", [False, True])
def test_a_view_speaks_of_one_answer_at_a_time(run, hooked):
    view = gi.view(run.model(-1), run.task) if hooked else run.view(-1)
    logits, cache = run.model(-1).double().run_with_cache(run.task.inputs)
    for i, answer in enumerate(run.task.reads.answers):
        of_answer, position = view.at(answer), run.task.reads.positions[i]
        atol = 1e-4 if hooked else 1e-5
        torch.testing.assert_close(
            of_answer.logits.float(), logits[:, position, :10].float(), rtol=0, atol=atol
        )
        torch.testing.assert_close(
            of_answer.attention[1].float(),
            cache["blocks.1.attn.hook_pattern"][:, :, position].transpose(0, 1).float(),
            rtol=0,
            atol=atol,
        )
        assert torch.equal(of_answer.targets, run.task.sample.answers[:, i])
    assert torch.equal(view.logits, view.at("y1").logits)
    with pytest.raises(UsageError, match=r"^reverse has no answer 'y7'; known: y1, y2, y3, y4, y5, y6$"):
        view.at("y7")


def test_every_measure_of_any_task_has_a_value_for_each_answer(run):
    view = run.view(-1)
    for name, known in MEASURES.items():
        if not known.applies_to(run.task):
            continue
        try:
            value = gi.measure(name, view)
        except NotApplicable:
            continue
        if not known.each_answer:
            assert isinstance(value, float) or value.dims[0] != "answer"  # it may be of all of them at once
            continue
        assert value.dims[0] == "answer"
        assert value.coords["answer"].values.tolist() == list(run.task.reads.answers)
        assert value.attrs["unit"] == known.unit
    loss = gi.measure("loss", view)
    history = run.history.iloc[-1]
    for answer in run.task.reads.answers:
        assert float(loss.sel(answer=answer, part="test")) == pytest.approx(
            history[f"test_loss.{answer}"], rel=1e-9
        )
    assert "train" not in loss.coords["part"].values  # of fresh examples none is kept


def test_a_measure_of_one_answer_is_of_that_alone(run):
    view = run.view(-1)
    one = gi.measure("loss", view.at("y3"))
    assert one.dims == ("part",)
    assert float(one.sel(part="all")) == float(gi.measure("loss", view).sel(answer="y3", part="all"))


@pytest.mark.parametrize("hooked", [False, True])
def test_other_weights_are_asked_the_same_answer(run, hooked):
    view = (gi.view(run.model(-1), run.task) if hooked else run.view(-1)).at("y3")
    same = view.with_weights({"unembed.b_U": view.weights["unembed.b_U"]})
    assert same.answer == "y3"
    assert torch.equal(same.logits, view.logits)


def test_a_measure_of_another_family_says_of_which_it_is(run):
    with pytest.raises(
        NotApplicable, match=r"^gini\.W_E is a measure of Operation tasks, and reverse is a Reverse$"
    ):
        gi.measure("gini.W_E", run.view(-1))
    assert all(
        MEASURES[name].of is Operation for name in ("gini.W_E", "restricted_loss.logit_dirs", "key_irreps")
    )


def test_a_measure_of_ones_own_may_be_of_ones_own_family(run):
    @measure("backwards.share", unit="1", ref="a test of this package", of=Reverse)
    def share(view: gi.View) -> float:
        """The share of right answers."""
        return float(view.correct().double().mean())

    try:
        value = gi.measure("backwards.share", run.view(-1))
        assert value.sizes == {"answer": 6}
        with pytest.raises(
            NotApplicable, match="is a measure of Reverse tasks, and modular_addition is an Operation"
        ):
            gi.measure(
                "backwards.share",
                gi.view(gi.load_run(run.path).model(-1), run.task).at("y1").__class__.of_weights(*_table()),
            )
    finally:
        del MEASURES["backwards.share"]


def _table():
    task, model = make_task("modular_addition", p=5), ModelConfig(d_model=8, n_heads=2, d_mlp=8)
    return task, model, model.initial_weights(task.reads, 0)


# What cannot be


@dataclass(frozen=True)
class Odd(Majority):
    """Fresh examples of another shape than the sample's."""

    def draw(self, n, generator):
        sample = super().draw(n, generator)
        return sample if n != 64 else Sample(sample.inputs[:, :-1], sample.answers)


def odd() -> Odd:
    return Odd(n=8, v=5, examples=512, sample_seed=0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"training.batch_size": None},
            r"^training\.data: fresh examples come in batches: set training\.batch_size$",
        ),
        (
            {"task": {"name": "modular_addition", "p": 5}},
            r"^training\.data: modular_addition has no fresh examples",
        ),
        (
            {"task": {"name": "odd"}},
            r"^training\.data: odd: draw\(64\) has examples of shape \[7\], and needs \[8\]$",
        ),
        ({"training.stop_when": "test_loss.y9 < 1"}, r"unknown metric|is not monitored|test_loss\.y9"),
        ({"task.n": 1}, r"^task\.n: "),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_line(overrides, message):
    TASKS["odd"] = odd
    try:
        with pytest.raises(ConfigError, match=message) as caught:
            Trainer(config("reverse", **overrides))
        assert "\n" not in str(caught.value)
    finally:
        del TASKS["odd"]


def test_noise_is_no_matter_of_fresh_examples():
    with pytest.raises(ConfigError, match="labels of fresh examples have no noise"):
        config("reverse", task={"name": "modular_addition", "p": 5, "noise": {"kind": "uniform"}})


def test_runs_on_fresh_examples_or_with_several_answers_are_not_stacked():
    assert kind(config("majority")) is None
    assert kind(finite("reverse")) is None
    assert kind(finite("majority")) is not None


def test_an_answer_may_stop_a_run():
    trainer = Trainer(config("reverse", **{"training.stop_when": "test_accuracy.y1 >= 0"}))
    assert [snapshot.step for snapshot in trainer] == [0]


# Answers that are not always asked


@dataclass(frozen=True)
class Rare(Majority):
    """The commonest kind, asked where it is the smallest; and whether it is, asked of some other examples."""

    both: bool = True

    @cached_property
    def reads(self):
        reads = super().reads
        return replace(reads, answers=("kind", "smallest"), positions=(5, 7)) if self.both else reads

    def draw(self, n, generator):
        sample = super().draw(n, generator)
        kind, first = sample.answers[:, 0], sample.inputs[:, 0]
        answers = torch.stack(
            [torch.where(kind == 0, kind, -1), torch.where(first == 1, (kind == 0).long(), -1)], 1
        )
        return Sample(sample.inputs, answers if self.both else answers[:, 1:])


@pytest.mark.parametrize("data", ["fresh", "sample"])
@pytest.mark.parametrize("both", [True, False])
def test_an_answer_may_be_asked_of_few_examples_or_of_none_in_a_batch(monkeypatch, tmp_path, both, data):
    def rare() -> Rare:
        return Rare(n=8, v=5, examples=60, sample_seed=0, both=both, symbol="rare")

    monkeypatch.setitem(TASKS, "rare", rare)
    overrides = {"task": {"name": "rare"}, "training.batch_size": 8, "training.data": data}
    run = gi.train(config("majority", **overrides), tmp_path / "run", progress=False)
    task, view = run.task, run.view(-1)
    assert 0 < task.asked.sum() < 60
    test = run.split.test[task.asked[run.split.test]]
    exact = view.all_right()[test].double().mean()
    standing = gi.analyze(run).analysis.standing
    assert standing.shares["test"].n == len(test)
    assert standing.shares["test"].right == pytest.approx(float(exact), abs=1e-12)
    column = "test_exact" if both else "test_accuracy"
    assert run.history[column].iloc[-1] == pytest.approx(float(exact), abs=1e-12)
    guesses = [task.targets[task.asked] * 0, task.targets[task.asked] * 0 + 1]
    best = max(
        float(((guess == task.targets[task.asked]) | (task.targets[task.asked] < 0)).double().mean())
        for guess in guesses
    )
    assert task.chance <= best + 1e-12
    ablated = gi.ablate(view, "mlp", draws=0)
    assert ablated.before.loss["all"] == pytest.approx(float(view.loss()[view.asked].mean()), rel=1e-12)
    gi.analyze(run).to_html()


def test_what_is_recorded_of_several_answers_is_what_a_training_says(tmp_path):
    trained = gi.train(finite("reverse", **{"training.steps": 4}), tmp_path / "trained", progress=False)
    split = trained.split
    recorded = gi.record(trained.model(4).float(), trained.task, 4, out=tmp_path / "recorded", split=split)
    ours, theirs = trained.history.iloc[-1], recorded.history.iloc[-1]
    for name in ("test_loss", "test_accuracy", "test_exact", "train_exact", "test_accuracy.y2"):
        assert theirs[name] == pytest.approx(ours[name], rel=1e-4), name
