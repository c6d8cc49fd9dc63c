"""Noisy labels: how they are drawn, what training and View make of them, and what is said of networks that
learned from them."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import grokinterp as gi
from conftest import tiny
from expected_noise import BAYES_LOSS
from grokinterp import controls
from grokinterp.errors import ConfigError, DamagedFile, NotApplicable
from grokinterp.measures import noise_phase
from grokinterp.measures.waves import restricted
from grokinterp.measures.waves.projections import losses_less
from grokinterp.models import ModelConfig
from grokinterp.replay import NoiseSpan, noise_in_words, noise_spans
from grokinterp.report import Report
from grokinterp.report.operations import figures
from grokinterp.report.page import facts
from grokinterp.runs import train
from grokinterp.tasks import Split, Symbols, Task, make_task, split
from grokinterp.tasks import task as register
from grokinterp.tasks.noise import Binomial, Uniform
from grokinterp.training import BatchedTrainer, Trainer
from grokinterp.training.examples import FoldedExamples

BINOMIAL = {"kind": "binomial", "n": 4, "p": 0.5}
UNIFORM = {"kind": "uniform", "share": 0.35}


def addition(noise: dict[str, object] | None = None, p: int = 97) -> Task:
    return make_task("modular_addition", p=p, noise=noise)


def half(task: Task) -> Split:
    return split(task.n_inputs, 0.5)


# How labels are drawn


def test_without_noise_labels_are_the_right_answers():
    task = addition()
    assert task.noise is None
    assert task.labels(None) is task.targets


def test_binomial_noise_is_what_coins_give_pair_by_pair():
    task = addition({**BINOMIAL, "seed": 3}, p=11)
    coins = torch.stack(
        [
            torch.rand(121, dtype=torch.float64, generator=g)
            for g in [torch.Generator().manual_seed(3)]
            for _ in range(4)
        ]
    )
    expected = [
        (a + b + int((coins[:, 11 * a + b] < 0.5).sum()) - 2) % 11 for a in range(11) for b in range(11)
    ]
    assert task.labels(None).tolist() == expected


def test_the_shifts_come_as_often_as_they_should():
    task = addition(BINOMIAL)
    shift = (task.labels(None) - task.targets + 48) % 97 - 48
    for k, share in {-2: 1 / 16, -1: 1 / 4, 0: 3 / 8, 1: 1 / 4, 2: 1 / 16}.items():
        assert float((shift == k).double().mean()) == pytest.approx(share, abs=4 * math.sqrt(share / 9409))
    assert int(shift.abs().max()) == 2


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 60), st.floats(0.01, 0.99), st.integers(2, 130))
def test_the_right_answer_is_the_likeliest_label_and_shares_sum_to_one(n, p, m):
    shifts = Binomial(n=n, p=p).shifts(m)
    assert float(shifts.sum()) == pytest.approx(1)
    if m > n:
        assert float(shifts[0]) == pytest.approx(float(shifts.max()))


@pytest.mark.parametrize(
    ("n", "p", "centre"), [(4, 0.5, 2), (3, 0.5, 2), (1, 0.5, 1), (10, 0.2, 2), (1, 0.1, 0)]
)
def test_noise_is_centred_at_its_likeliest_value(n, p, centre):
    assert Binomial(n=n, p=p).centre == centre


@pytest.mark.parametrize("p", [7, 97])
def test_uniform_noise_is_that_of_the_released_code_of_doshi_et_al(p):
    """Their `noisy_dataset`: global seed 0, the first int(ξ n_train) labels in the order of the shuffled
    pairs."""
    task = addition(UNIFORM, p)
    found = task.labels(half(task))
    order = half(task).train
    torch.manual_seed(0)
    drawn = torch.randint(0, p, (int(0.35 * len(order)),))
    expected = task.targets.clone()
    expected[order[: len(drawn)]] = drawn
    assert torch.equal(found, expected)
    assert torch.equal(found[half(task).test], task.targets[half(task).test])


@pytest.mark.parametrize("noise", [BINOMIAL, UNIFORM], ids=["binomial", "uniform"])
def test_test_labels_are_noisy_or_clean_as_asked(noise):
    for test in ("noisy", "clean"):
        task = addition({**noise, "test": test})
        wrong = task.labels(half(task)) != task.targets
        at = 0.625 if noise is BINOMIAL else 0.35 * 96 / 97
        assert float(wrong[half(task).train].double().mean()) == pytest.approx(at, abs=0.03)
        assert float(wrong[half(task).test].double().mean()) == pytest.approx(
            at if test == "noisy" else 0, abs=0.03
        )


def test_nothing_but_task_split_and_noise_shifts_a_drawing():
    task = addition({**UNIFORM, "test": "noisy"}, p=23)
    first = task.labels(half(task))
    threads = torch.get_num_threads()
    torch.manual_seed(99)
    torch.set_num_threads(3)
    try:
        assert torch.equal(
            make_task("modular_addition", p=23, noise={**UNIFORM, "test": "noisy"}).labels(half(task)), first
        )
    finally:
        torch.set_num_threads(threads)
    state = torch.get_rng_state()
    task.labels(half(task))
    assert torch.equal(torch.get_rng_state(), state)
    other = dataclasses.replace(task, noise=Uniform(test="noisy", seed=1))
    assert not torch.equal(other.labels(half(task)), first)
    assert not torch.equal(task.labels(split(task.n_inputs, 0.5, seed=1)), first)


@pytest.mark.parametrize(
    "noise", [UNIFORM, {**BINOMIAL, "test": "clean"}], ids=["uniform", "clean test labels"]
)
def test_labels_that_depend_on_the_split_need_it(noise):
    with pytest.raises(NotApplicable, match="depends on the split"):
        addition(noise).labels(None)
    view = gi.view(controls.random_network(7).model, addition(noise, p=7))
    with pytest.raises(NotApplicable, match="depends on the split"):
        gi.measure("loss", view)


def test_noise_goes_round_the_circle_of_the_answers_or_through_their_numbers():
    assert addition(p=5).ring.tolist() == [0, 1, 2, 3, 4]
    assert make_task("modular_multiplication", p=5).ring.tolist() == [0, 1, 2, 3, 4]  # 0 stands on no circle
    assert make_task("group_composition", group="S3").ring.tolist() == list(range(6))
    names = Symbols(tuple("abcde"), tuple("abcde"))  # numbers would be in the order of their own
    turned = dataclasses.replace(
        addition(BINOMIAL, p=5), find_circle=lambda: turned_circle, find_symbols=lambda: names
    )
    own = torch.tensor([0, 2, 4, 1, 3])
    turned_circle = dataclasses.replace(addition(p=5).circle, a=own, b=own, c=own)
    assert turned.ring is turned_circle.c
    step = (turned.labels(None) - turned.targets) % 5
    plain = addition(BINOMIAL, p=5)
    assert torch.equal(
        step, 2 * (plain.labels(None) - plain.targets) % 5
    )  # one place further round is two further in number


# What a configuration may say


@pytest.mark.parametrize(
    ("noise", "says"),
    [
        ({"kind": "binomail"}, "task.noise.kind: unknown kind 'binomail'; did you mean 'binomial'?"),
        ({"n": 4}, "task.noise: needs a kind, such as"),
        ("binomial", "task.noise: needs a kind, such as"),
        ({"kind": "binomial", "share": 0.3}, "unknown key 'task.noise.share'; known: kind, n, p, seed, test"),
        ({"kind": "uniform", "shar": 0.3}, "unknown key 'task.noise.shar'; did you mean 'share'?"),
        ({"kind": "binomial", "p": 1.5}, "task.noise.p: input should be less than 1, got 1.5"),
        ({"kind": "binomial", "n": 0}, "task.noise.n: input should be greater than or equal to 1, got 0"),
        ({"kind": "uniform", "share": True}, "task.noise.share: takes no yes or no, got True"),
        (
            {"kind": "uniform", "test": "none"},
            "task.noise.test: input should be 'noisy' or 'clean', got 'none'",
        ),
        (
            {"kind": "uniform", "seed": -1},
            "task.noise.seed: input should be greater than or equal to 0, got -1",
        ),
    ],
)
def test_noise_that_makes_no_sense_is_refused_in_one_line(noise, says):
    for make in (
        lambda: make_task("modular_addition", p=7, noise=noise),
        lambda: gi.TrainConfig.make({"task": {"name": "modular_addition", "noise": noise}}),
    ):
        with pytest.raises(ConfigError) as error:
            make()
        assert says in str(error.value)
        assert "\n" not in str(error.value)


def test_a_configuration_freezes_the_noise_and_goes_through_json_and_toml():
    config = gi.TrainConfig.make({"task": {"name": "modular_addition", "noise": UNIFORM}})
    assert config.task["noise"] == {**UNIFORM, "seed": 0, "test": "clean"}
    assert (
        gi.TrainConfig.make(json.loads(json.dumps(config.model_dump(mode="json", exclude_none=True))))
        == config
    )
    assert (
        gi.TrainConfig.from_toml(
            "[task]\nname = 'modular_addition'\nnoise = {kind = 'uniform', share = 0.35}"
        )
        == config
    )
    assert config.make_task().noise == Uniform(share=0.35)
    assert "noise" not in gi.TrainConfig.make(config.model_dump(), **{"task.noise": None}).task


def test_a_key_of_the_noise_can_be_changed_alone():
    recipe = gi.TrainConfig.preset("quick", **{"task.noise": {"kind": "binomial", "n": 6}})
    assert recipe.changed(**{"task.noise.seed": 3}).task["noise"] == recipe.task["noise"] | {"seed": 3}
    assert (
        gi.TrainConfig.preset("quick", **{"task.noise.kind": "uniform", "task.noise.share": 0.2}).task[
            "noise"
        ]["share"]
        == 0.2
    )
    assert recipe.changed(task={"noise": {"seed": 3}}).task["noise"] == recipe.task["noise"] | {"seed": 3}
    uniform = recipe.changed(**{"task.noise.kind": "uniform"}).task["noise"]
    assert (
        uniform == Uniform(test="noisy").model_dump()
    )  # n and p are binomial's; which labels are noisy stays as it was
    with pytest.raises(ConfigError, match=r"task\.noise: needs a kind"):
        gi.TrainConfig.preset("quick", **{"task.noise.seed": 3})
    with pytest.raises(ConfigError, match=r"unknown key .task\.noise\.sead.; did you mean .seed."):
        recipe.changed(**{"task.noise.sead": 3})


def test_a_task_may_have_no_parameter_that_every_task_has():
    def noisy_operation(p: int = 5, noise: float = 0.1) -> Task:
        raise AssertionError

    with pytest.raises(ValueError, match="noisy_operation: every task takes 'noise' already"):
        register(noisy_operation)


@pytest.mark.parametrize("text", ["corrupted_accuracy > 0.5", "test_clean_accuracy >= 0.9 for 10"])
def test_conditions_may_speak_of_corrupted_examples_where_there_are_any(text):
    for key in ("training.stop_when", "snapshots.events"):
        value = text if key == "training.stop_when" else [text]
        assert tiny(**{"task.noise": UNIFORM, key: value})
        with pytest.raises(
            ConfigError, match=f"{key}: '{text.split()[0]}' is of noisy labels, and task.noise gives none"
        ):
            tiny(**{key: value})


# Training

NOISY = {"task.p": 11, "task.noise": UNIFORM, "training.fraction": 0.5}


def by_hand(run: gi.Run, step: int) -> dict[str, float]:
    """The columns of an evaluation, example by example."""
    view = run.view(step)
    given, right, guess = (
        x.tolist() for x in (run.task.labels(run.split), run.task.targets, view.logits.argmax(1))
    )
    train, test = run.split.train.tolist(), run.split.test.tolist()
    wrong = [row for row in train if given[row] != right[row]]

    def share(rows, classes):
        return sum(guess[row] == classes[row] for row in rows) / len(rows)

    losses = [-float(row.log_softmax(0)[label]) for row, label in zip(view.logits, given, strict=True)]
    return {
        "train_loss": sum(losses[row] for row in train) / len(train),
        "test_loss": sum(losses[row] for row in test) / len(test),
        "train_accuracy": share(train, given),
        "test_accuracy": share(test, given),
        "train_clean_accuracy": share(train, right),
        "test_clean_accuracy": share(test, right),
        "corrupted_accuracy": share(wrong, given),
        "corrupted_clean_accuracy": share(wrong, right),
    }


@pytest.mark.parametrize(
    "ways", [{}, {"model.n_layers": 2}, {"training.batch_size": 16}], ids=["folded", "plain", "batches"]
)
@pytest.mark.parametrize(
    "noise",
    [BINOMIAL, UNIFORM, {**UNIFORM, "test": "noisy"}],
    ids=["binomial", "uniform", "uniform, test noisy"],
)
def test_the_history_is_what_examples_one_by_one_give(tmp_path, noise, ways):
    config = tiny(**{**NOISY, "task.noise": noise, **ways})
    assert Trainer(config).folded == (ways != {"model.n_layers": 2})
    run = train(config, tmp_path / "run")
    for row in run.history.set_index("step").loc[run.steps].itertuples():
        assert row._asdict() == pytest.approx(
            {"Index": row.Index, "grad_norm": row.grad_norm, **by_hand(run, row.Index)}, rel=1e-4, nan_ok=True
        )
    assert gi.load_run(tmp_path / "run").config.task["noise"]["kind"] == noise["kind"]


def test_the_gradient_is_that_of_the_labels_and_not_of_the_right_answers():
    config = tiny(**NOISY, **{"training.dtype": "float64"})
    trainer = Trainer(config)
    assert isinstance(trainer._examples, FoldedExamples)
    found = trainer._examples.gradients(None)
    model = config.model.hooked(trainer.task.reads, trainer.weights, torch.float64)
    rows = trainer.split.train
    torch.nn.functional.cross_entropy(
        model(trainer.task.inputs[rows])[:, -1], trainer.task.labels(trainer.split)[rows]
    ).backward()
    torch.testing.assert_close(found["embed.W_E"], model.embed.W_E.grad, rtol=1e-9, atol=1e-12)


def test_a_run_on_noisy_labels_is_the_same_bytes_whoever_interrupts_it_and_with_any_number_of_threads(
    tmp_path,
):
    whole = train(tiny(**NOISY), tmp_path / "whole")
    trainer = Trainer(tiny(**NOISY, threads=3))
    states = [(snapshot.step, trainer.state()) for snapshot in trainer if not snapshot.last]
    other = Trainer(tiny(**NOISY, threads=2), dict(states)[10])
    *_, last = other
    for name, weight in whole.state_dict(20).items():
        assert weight.numpy().tobytes() == last.weights[name].detach().numpy().tobytes()


def test_noise_on_test_labels_changes_no_weight():
    ends = []
    for test in ("noisy", "clean"):
        *_, last = Trainer(tiny(**{**NOISY, "task.noise": {**UNIFORM, "test": test}}))
        ends.append({name: weight.detach().numpy().tobytes() for name, weight in last.weights.items()})
    assert ends[0] == ends[1]


def test_a_stack_of_runs_has_the_labels_of_each_split():
    configs = [
        tiny(seed=seed, **{**NOISY, "training.split_seed": seed, "training.dtype": "float64"})
        for seed in (0, 1)
    ]
    alone = [[s.metrics for s in Trainer(config)] for config in configs]
    together: list[list[dict[str, float]]] = [[], []]
    for number, snapshot in BatchedTrainer(configs):
        together[number].append(snapshot.metrics)
    for one, other in zip(alone, together, strict=True):
        assert [m.keys() for m in one] == [m.keys() for m in other]
        assert "corrupted_clean_accuracy" in one[0]
        for a, b in zip(one, other, strict=True):
            assert a == pytest.approx(b, rel=1e-6)


def test_without_a_corrupted_example_there_are_no_columns_of_them(tmp_path):
    run = train(tiny(**{"task.noise": {"kind": "uniform", "share": 0.01}}), tmp_path / "run")
    assert "train_clean_accuracy" in run.history
    assert "corrupted_accuracy" not in run.history
    assert gi.measure("accuracy", run.view(-1)).part.values.tolist() == ["train", "test", "all", "clean"]
    assert gi.analyze(run, with_replay=False, progress=False).analysis.noise_phase is None


# View


@pytest.fixture(scope="module")
def memorised(tmp_path_factory) -> gi.Run:
    """A network that has learned its noisy labels by heart."""
    config = gi.TrainConfig.make(
        {
            "task": {"name": "modular_addition", "p": 23, "noise": BINOMIAL},
            "model": {"d_model": 64, "n_heads": 4, "d_mlp": 256},
        },
        threads=1,
        **{
            "training.fraction": 0.5,
            "training.lr": 3e-3,
            "training.weight_decay": 0.0,
            "training.steps": 300,
            "snapshots.every": 100,
        },
    )
    return train(config, tmp_path_factory.mktemp("memorised") / "run")


def test_a_view_tells_corrupted_examples_from_clean_ones(memorised):
    view = memorised.view(-1)
    assert torch.equal(view.labels, memorised.task.labels(memorised.split))
    assert view.parts == ["train", "test", "all", "corrupted", "clean"]
    train_rows = view.rows("train")
    assert torch.equal(view.rows("corrupted") | view.rows("clean"), train_rows)
    assert not (view.rows("corrupted") & view.rows("clean")).any()
    assert torch.equal(view.rows("corrupted"), (view.labels != memorised.task.targets) & train_rows)
    assert controls.random_network(7).parts == ["train", "test", "all"]


def test_losses_are_of_the_labels_unless_the_right_answers_are_asked_for(memorised):
    view = memorised.view(-1)
    for against, classes in (("labels", view.labels), ("answers", memorised.task.targets)):
        expected = torch.nn.functional.cross_entropy(view.logits, classes, reduction="none")
        torch.testing.assert_close(view.loss(against=against), expected, rtol=1e-9, atol=1e-12)
        assert torch.equal(view.correct(against=against), view.logits.argmax(1) == classes)
        some = torch.tensor([3, 5, 100])
        torch.testing.assert_close(
            view.loss(view.logits[some], some, against), expected[some], rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize(
    "name", ["restricted.logit_dirs", "excluded.logit_dirs", "restricted.neuron_dirs", "excluded.logit_cube"]
)
@pytest.mark.parametrize("what", ["loss", "accuracy"])
def test_edited_logits_that_depend_on_the_answer_alone_are_held_against_every_label(memorised, name, what):
    view, keys = memorised.view(-1), [2, 7]
    kind, _, variant = name.partition(".")
    logits = getattr(restricted, f"{kind}_{variant}")(view, keys)
    by_row = view.loss(logits) if what == "loss" else view.correct(logits).double()
    found = gi.measure(f"{kind}_{what}.{variant}", view, keys=keys)
    for part in view.parts:
        assert float(found.sel(part=part)) == pytest.approx(float(by_row[view.rows(part)].mean()), rel=1e-9)


def test_losses_without_a_frequency_are_of_the_labels_and_keys_of_the_right_answers(memorised):
    view = memorised.view(-1)
    found = gi.measure("excluded_loss.per_frequency", view)
    answers = gi.view(view.model, dataclasses.replace(view.task, noise=None), split=view.split)
    k = 4
    edited = restricted.excluded_logit_dirs(view, [k])
    assert float(found.sel(freq=k, part="corrupted")) == pytest.approx(
        float(view.loss(edited)[view.rows("corrupted")].mean()), rel=1e-9
    )
    assert not np.allclose(
        found.sel(part="all"), gi.measure("excluded_loss.per_frequency", answers).sel(part="all")
    )
    for rule in ("load_bearing", "logits", "w_l", "consensus"):
        np.testing.assert_array_equal(
            gi.measure(f"key_frequencies.{rule}", view), gi.measure(f"key_frequencies.{rule}", answers)
        )
    taken = torch.randn(2, 23, 23, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(
        losses_less(view, taken, "answers"), losses_less(answers, taken), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_losses_less_what_depends_on_the_answer_are_those_of_every_label(memorised, scale):
    view = memorised.view(-1)
    taken = scale * torch.randn(3, 23, 23, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = view.logits.clone()
    expected = [
        view.loss(view.logits - each[view.task.targets]) for each in taken
    ]  # a and b stand at themselves, and c*
    torch.testing.assert_close(losses_less(view, taken), torch.stack(expected, dim=1), rtol=1e-9, atol=1e-300)
    assert torch.equal(view.logits, before)


def test_labels_that_this_machine_draws_otherwise_are_noticed(tmp_path, monkeypatch):
    run = train(tiny(**NOISY), tmp_path / "run")
    assert len(run.record["labels"]["sha256"]) == 64
    monkeypatch.setattr(Uniform, "drawn", lambda self, answers, ring, split: answers.flip(0))
    with pytest.raises(DamagedFile, match="this machine draws other noisy labels"):
        gi.load_run(tmp_path / "run").view(-1)


# What the measures say


def whoever_knows_the_noise(task: Task) -> gi.View:
    """A network that gives, for every pair, the distribution of its labels: a neuron for each pair writes log
    p(k) at c* + k."""
    p = task.p
    table = controls.lookup(p, 1.0)
    distribution = task.noise.shifts(p)
    log = distribution.clamp_min(1e-30).log()
    weights = {name: weight.clone() for name, weight in table.weights.items()}
    # W_out writes one place of the ring; the unembedding turns it into the whole distribution.
    weights["unembed.W_U"][:p] = torch.stack([log.roll(c) for c in range(p)])
    config = ModelConfig(d_model=3 * p + 3, n_heads=2, d_head=p, d_mlp=p * p, train_biases="mlp")
    return gi.View.of_weights(task, config, weights, split=half(task))


@pytest.mark.parametrize(
    "noise",
    [BINOMIAL, {"kind": "binomial", "n": 3, "p": 0.3}, {**UNIFORM, "test": "noisy"}],
    ids=["4", "3", "uniform"],
)
def test_who_knows_the_noise_and_not_the_draws_is_at_the_bayes_values(noise):
    view = whoever_knows_the_noise(addition(noise, p=23))
    drawn = view.task.noise.shifts(23)
    profile = gi.measure("noise.profile", view)
    assert profile.offset.values.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    for k in range(-3, 4):
        np.testing.assert_allclose(profile.sel(offset=k), float(drawn[k]), rtol=1e-9, atol=1e-15)
    n = view.task.n_inputs
    for name, per_example in (("loss", view.loss()), ("accuracy", view.correct().double())):
        found, best = gi.measure(name, view), gi.measure(f"noise.bayes_{name}", view)
        expected = float(best.sel(part="all"))
        assert float(found.sel(part="all")) == pytest.approx(
            expected, abs=4 * float(per_example.std()) / math.sqrt(n)
        )
    assert (gi.measure("clean_accuracy", view) == 1).all()
    assert float(gi.measure("accuracy", view).sel(part="corrupted")) == 0
    assert float(gi.measure("accuracy", view).sel(part="clean")) == 1
    assert float(gi.measure("clean_loss", view).sel(part="all")) == pytest.approx(
        -math.log(float(drawn[0])), rel=1e-9
    )


def test_the_bayes_values_of_the_two_published_systems():
    view = gi.view(controls.random_network(97).model, addition(BINOMIAL), split=half(addition()))
    assert pytest.approx(1.4075, abs=5e-5) == BAYES_LOSS
    for part in ("train", "test", "all"):
        assert float(gi.measure("noise.bayes_loss", view).sel(part=part)) == pytest.approx(
            BAYES_LOSS, rel=1e-12
        )
        assert float(gi.measure("noise.bayes_accuracy", view).sel(part=part)) == pytest.approx(
            0.375, rel=1e-12
        )
    view = gi.view(view.model, addition(UNIFORM), split=half(addition()))
    right = 0.65 + 0.35 / 97
    accuracy, loss = gi.measure("noise.bayes_accuracy", view), gi.measure("noise.bayes_loss", view)
    assert float(accuracy.sel(part="train")) == pytest.approx(right)
    assert float(loss.sel(part="train")) == pytest.approx(
        -right * math.log(right) - 96 * 0.35 / 97 * math.log(0.35 / 97)
    )
    assert (float(accuracy.sel(part="test")), float(loss.sel(part="test"))) == (1, 0)
    assert float(accuracy.sel(part="all")) == pytest.approx((4704 * right + 4705) / 9409)


@pytest.mark.parametrize("name", ["noise.profile", "noise.bayes_loss", "noise.bayes_accuracy"])
def test_noise_is_not_measured_where_there_is_none(name):
    with pytest.raises(NotApplicable, match="the task has no noise: every label is the right answer"):
        gi.measure(name, controls.random_network(7))


def test_where_nothing_is_noisy_clean_is_as_given():
    view = controls.random_network(7)
    for name in ("loss", "accuracy"):
        np.testing.assert_array_equal(gi.measure(f"clean_{name}", view), gi.measure(name, view))


def test_a_network_that_has_memorised_knows_the_wrong_labels_and_nothing_of_the_noise(memorised):
    view = memorised.view(-1)
    given, right = gi.measure("accuracy", view), gi.measure("clean_accuracy", view)
    assert (
        float(given.sel(part="train"))
        == float(given.sel(part="corrupted"))
        == float(given.sel(part="clean"))
        == 1
    )
    assert float(right.sel(part="corrupted")) == 0
    assert float(right.sel(part="clean")) == 1
    assert float(right.sel(part="test")) < 0.2
    assert float(gi.measure("loss", view).sel(part="test")) > math.log(23)
    assert (gi.measure("noise.profile", view).sel(part="test") < 0.2).all()


# Phases


@pytest.mark.parametrize(
    ("phase", "train_", "test_", "corrupted", "inverted"),
    [
        # Doshi et al.'s printed accuracies, p = 97, 35 % corrupted; their corrupted examples by what is left
        # of these.
        ("coexistence", 0.978, 0.983, 0.936, 0.03),
        ("partial inversion", 0.786, 1.0, 0.37, 0.6),
        ("full inversion", 0.654, 1.0, 0.0, 1.0),
        ("not trained", 0.009, 0.011, 0.01, 0.01),
        ("memorisation", 1.0, 0.01, 1.0, 0.0),
        ("in between", 1.0, 0.7, 1.0, 0.0),
        ("in between", 0.6, 0.01, 0.6, 0.0),
    ],
)
def test_accuracies_name_the_phase(phase, train_, test_, corrupted, inverted):
    assert noise_phase(train_, test_, corrupted, inverted, 1 / 97) == phase


def test_what_is_at_chance_again_has_forgotten():
    assert noise_phase(0.009, 0.011, 0.01, 0.01, 1 / 97, learned_before=True) == "forgetting"


def test_a_network_whose_weights_have_decayed_to_nothing_gives_no_answers():
    config = gi.TrainConfig.preset("doshi", **{"task.p": 11, "model.d_mlp": 50})
    task = config.make_task()
    drawn = {
        name: (weight.sign() * 3e-45) for name, weight in config.model.initial_weights(task.reads, 0).items()
    }
    assert all(weight.any() for weight in drawn.values())
    assert not gi.View.of_weights(task, config.model, drawn).logits.any()
    assert gi.View.of_weights(
        task, config.model, {name: weight.double() for name, weight in drawn.items()}
    ).logits.any()


def test_the_phases_of_a_run_follow_each_other_without_gaps():
    import pandas as pd

    rows = [
        (0, 0.01, 0.01, 0.01, 0.01),
        (10, 1, 0.02, 1, 0),
        (20, 1, 0.02, 1, 0),
        (30, 0.8, 1, 0.4, 0.6),
        (40, 0.65, 1, 0, 1),
        (50, 0, 0, 0, 0),
    ]
    columns = [
        "step",
        "train_accuracy",
        "test_clean_accuracy",
        "corrupted_accuracy",
        "corrupted_clean_accuracy",
    ]
    spans = noise_spans(pd.DataFrame(rows, columns=columns), 97)
    assert spans == [
        NoiseSpan("not trained", 0, 10),
        NoiseSpan("memorisation", 10, 30),
        NoiseSpan("partial inversion", 30, 40),
        NoiseSpan("full inversion", 40, 50),
        NoiseSpan("forgetting", 50, 50),
    ]
    assert noise_in_words(spans).endswith("full inversion from step 40, forgetting from step 50.")
    with pytest.raises(NotApplicable, match="no evaluation tells corrupted examples"):
        noise_spans(pd.DataFrame(rows, columns=columns)[["step", "train_accuracy"]], 97)


# Report, replay and the commands


def test_the_report_says_that_it_memorised_the_noise_beside_the_bayes_values(memorised):
    report: Report = gi.analyze(memorised, measures=["gini.W_E"], progress=False)
    a = report.analysis
    assert a.noise_phase == "memorisation"
    assert a.verdict.startswith(
        ("No: it has memorised the noise and not generalised. ", "In part: it has memorised the noise. ")
    )
    told = dict(facts(a))
    assert told["Bayes"].startswith(
        "who knows the rule and not the draws: accuracy train 37.50 %, test 37.50 %; loss train 1.4075, "
        "test 1.4075 nats"
    )
    assert told["Labels"].startswith("answer + Binomial(4, 0.5) − 2, seed 0; test labels noisy too.")
    assert "corrupted 0 %" in told["Right answers"]
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["noise"]["phase"] == "memorisation"
    assert found["noise"]["bayes_loss"]["test"] == pytest.approx(BAYES_LOSS)
    assert found["noise"]["spans"][-1]["phase"] == "memorisation"
    assert found["generalised"] is False
    verdicts = {claim["claim"]: claim["verdict"] for claim in found["claims"]}
    assert verdicts["It has memorised the noise and not generalised (memorisation)"] == "supported"
    assert verdicts["It has memorised the wrong labels and generalises (coexistence)"] == "refuted"
    assert (
        "It has only memorised its training examples" not in verdicts
    )  # the phases say what it has memorised
    assert "What it has learned of the noise" in report.to_html()
    assert told["Training"] == a.phases.sentence
    assert a.phases.kind in ("memorises only", "learns in part")


def test_the_pruning_figure_names_groups_and_orders_once_each(memorised):
    a = gi.analyze(memorised, progress=False, with_replay=False).analysis
    figure = figures.pruning(a)
    shown = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert shown == ["test", "corrupted", "clean", "lowest IPR first", "random", "highest IPR first"]
    assert len(figure.data) == 9 + 3


def test_the_replay_shows_corrupted_and_clean_examples_apart(memorised, tmp_path):
    from grokinterp.report import save_replay

    data = save_replay(memorised, tmp_path / "replay.html")
    assert data["loss"].part.values.tolist() == ["train", "test", "all", "corrupted", "clean"]
    assert float(data["clean_accuracy"].isel(step=-1).sel(part="corrupted")) == 0
    page = (tmp_path / "replay.html").read_text()
    for label in (
        "corrupted (label wrong)",
        "clean (label right)",
        "corrupted: right answer",
        "test: right answer",
    ):
        assert label in page
    assert "memorisation from step" in page


def test_a_run_without_noise_is_reported_as_before(tiny_run):
    found = gi.analyze(tiny_run, with_replay=False, progress=False).to_dict()
    assert "noise" not in found
    assert "noise" not in found["task"]
    assert not any("wrong label" in claim["claim"] for claim in found["claims"])
    assert list(found["accuracy"]) == ["train", "test", "all"]


def test_the_train_command_prints_both_accuracies_beside_the_bayes_values(grokinterp, tmp_path):
    arguments = [
        "train",
        "modular_addition",
        "--preset",
        "quick",
        "--p",
        7,
        "--set",
        "task.noise={kind='binomial'}",
        "--out",
        tmp_path / "run",
    ]
    code, out, err = grokinterp(
        *arguments, "--set", "training.steps=20", "--set", "training.stop_when=", "--threads", 1
    )
    assert (code, err) == (0, "")
    assert "against right answers: train 0." in out
    assert "Bayes, test labels: accuracy 0.3750, cross-entropy 1.4075 nats" in out
    code, _, err = grokinterp(*arguments[:6], *arguments[-2:], "--set", "task.noise={kind='normal'}")
    assert code == 2
    assert "task.noise.kind: unknown kind 'normal'" in err


def test_an_import_takes_no_noise(tmp_path):
    torch.save({"x": torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match=r"task\.noise: the labels of an imported network are not known"):
        gi.import_checkpoint(
            tmp_path / "a.pt", tmp_path / "out", task={"name": "modular_addition", "p": 7, "noise": BINOMIAL}
        )
