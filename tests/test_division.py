"""Plain division, and networks that answer with a number: every quotient against `fractions`, the readout
against a search for the nearest, the NALU against the formulas of its paper, and weights set by hand that
divide."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

import grokinterp as gi
from grokinterp.errors import ConfigError, Diverged, NotApplicable, UsageError
from grokinterp.models import MLPConfig, ModelConfig, NALUConfig, NetworkConfig, at_answer
from grokinterp.report import page
from grokinterp.report.analysis import analysis_of
from grokinterp.report.page import opening
from grokinterp.tasks import Task, make_task
from grokinterp.tasks.encoding import numbers
from grokinterp.training import LOSSES, Snapshot, TrainConfig, Trainer
from grokinterp.training.batched import BatchedTrainer

QUOTIENTS = make_task("plain_division", p=7)
INTEGERS = make_task("plain_division", p=7, reading="integer")
NUMBER = MLPConfig(d_model=8, d_mlp=20, biases="all", readout="number")
ANSWER_WITH_NUMBERS = [
    NUMBER,
    MLPConfig(embedding="one_hot", act_fn="square", d_mlp=20, d_out=6, readout="number"),
    NALUConfig(),
    NALUConfig(n_layers=3, width=4),
]
LENGTHS = gi.Task.of_function(lambda a, b: len(a + b), operands=["x", "yy"])


def named(config: NetworkConfig) -> str:
    return str(config)


of_numbers = pytest.mark.parametrize("config", ANSWER_WITH_NUMBERS, ids=named)


def random_weights(config: NetworkConfig, task: Task, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = config.shapes(task.reads)
    return {n: torch.randn(s, generator=generator, dtype=torch.float64) / 3 for n, s in shapes.items()}


def dividing(shut: float = 30.0) -> dict[str, Tensor]:
    """One NALU that is a / b: W is (1, -1) and the gate is shut wherever b > 0."""
    w_hat = torch.tensor([[1.0], [-1.0]], dtype=torch.float64) * 20
    weights = {"W_hat": w_hat, "M_hat": w_hat.abs(), "G": torch.full_like(w_hat, -shut)}
    return {f"blocks.0.nalu.{name}": weight for name, weight in weights.items()}


# The task


@pytest.mark.parametrize("p", [2, 3, 7, 12, 31])
@pytest.mark.parametrize("layout", ["a b =", "b op a ="])
def test_a_quotient_is_the_fraction_in_lowest_terms_and_every_one_that_occurs_is_a_class(p, layout):
    task = make_task("plain_division", p=p, layout=layout)
    assert task.pairs.tolist() == [[a, b] for a in range(p) for b in range(1, p)]
    for (a, b), answer in zip(task.pairs.tolist(), task.targets.tolist(), strict=True):
        fraction = task.symbols.answers[answer]
        assert fraction == Fraction(a, b)
        assert (fraction.numerator * b, math.gcd(*fraction.as_integer_ratio())) == (
            a * fraction.denominator,
            1,
        )
        assert task.answer_names[answer] == str(Fraction(a, b))
    assert sorted(set(task.symbols.answers)) == list(task.symbols.answers)
    assert set(task.targets.tolist()) == set(range(task.n_answers))


@pytest.mark.parametrize("p", [2, 3, 7, 31])
def test_the_integer_quotient_is_that_of_python(p):
    task = make_task("plain_division", p=p, reading="integer")
    expected = [a // b for a in range(p) for b in range(1, p)]
    assert [task.symbols.answers[answer] for answer in task.targets] == expected
    assert task.answer_names == tuple(map(str, range(p)))
    # a is 0 .. p-1 and b is 1 .. p-1: for every b, b of the a are smaller.
    assert task.facts.majority == pytest.approx(sum(range(1, p)) / (p * (p - 1)))


def test_there_are_as_many_quotients_as_coprime_pairs_and_zero():
    task = make_task("plain_division", p=31)
    coprime = sum(math.gcd(a, b) == 1 for a in range(1, 31) for b in range(1, 31))
    assert (task.n_answers, task.n_inputs) == (1 + coprime, 31 * 30)
    assert task.facts.majority == 1 / 31  # 0, of b pairs; as many as 1 has


@pytest.mark.parametrize("task", [QUOTIENTS, INTEGERS, make_task("plain_division", p=31)])
def test_plain_division_hides_no_group_and_is_not_modular_division(task):
    assert task.circle is None
    assert task.facts.structure == "no Latin square, no group"
    modular = make_task("modular_division", p=task.p)
    assert modular.circle is not None
    assert torch.equal(modular.pairs, task.pairs)
    assert modular.n_answers == task.p


# What a network may know of numbers


def test_a_network_is_told_the_numbers_of_tokens_and_of_answers():
    reads = QUOTIENTS.reads
    assert reads.token_numbers == (0, 1, 2, 3, 4, 5, 6, None)
    assert reads.logit_numbers == tuple(float(Fraction(name)) for name in QUOTIENTS.answer_names)
    julia = make_task("modular_subtraction", p=3, convention="julia").reads
    assert julia.token_numbers == julia.logit_numbers == (-3, -2, -1, 0, 1, 2, 3, None)


@pytest.mark.parametrize(
    "task",
    [
        make_task("plain_division", p=7, opaque=0),
        make_task("group_composition", group="S3"),
        gi.Task.of_function(lambda a, b: a + b, operands=["x", "y"]),
    ],
    ids=["opaque", "permutations", "letters"],
)
def test_symbols_that_are_none_or_opaque_have_no_numbers(task):
    if task.name != "group_composition":
        assert task.reads.token_numbers == task.reads.logit_numbers == ()
    for config in (NUMBER, NALUConfig()):
        if not task.reads.logit_numbers:
            with pytest.raises(UsageError, match=r"that are numbers, not opaque.* none are of a number"):
                config.shapes(task.reads)


def test_a_symbol_is_a_number_where_it_is_a_finite_one():
    assert numbers((Fraction(1, 3), 2, -0.5)) == (1 / 3, 2.0, -0.5)
    for other in (True, "1", None, 1j, math.nan, math.inf, 10**400):
        assert numbers((1, other)) == ()


@pytest.mark.parametrize(
    ("config", "task", "says"),
    [
        (NUMBER, make_task("modular_subtraction", p=3, convention="julia"), ".* 8 logits .* 7 are of a n"),
        (NUMBER, make_task("majority"), "an mlp reads the operands a and b"),
        (NALUConfig(), make_task("majority"), "a nalu reads the operands a and b"),
        (NALUConfig(d_vocab_out=99), QUOTIENTS, "model.d_vocab_out: a network that answers with a number"),
        (MLPConfig(readout="number", d_vocab_out=99), QUOTIENTS, "model.d_vocab_out: a network that answers"),
        (NALUConfig(), LENGTHS, "a nalu reads numbers"),
    ],
)  # fmt: skip
def test_a_task_that_cannot_be_answered_with_a_number_is_refused_in_one_line(config, task, says):
    with pytest.raises(UsageError, match=says):
        config.shapes(task.reads)


def test_numbers_for_other_than_all_tokens_are_refused():
    with pytest.raises(ConfigError, match="plain_division has numbers for 3 of 8 tokens: give one for each"):
        dataclasses.replace(QUOTIENTS.reads, token_numbers=(0.0, 1.0, 2.0))


# The number and the nearest answer


@of_numbers
@pytest.mark.parametrize("task", [QUOTIENTS, INTEGERS, make_task("plain_division", p=7, layout="b op a =")])
def test_the_largest_logit_is_that_of_the_nearest_answer(config, task):
    weights = random_weights(config, task)
    logits, cache = config.hooked(task.reads, weights, torch.float64).run_with_cache(task.inputs)
    for number, row in zip(cache["hook_number"].flatten().tolist(), logits[:, 0], strict=True):
        distances = [abs(number - float(answer)) for answer in task.symbols.answers]
        assert int(row.argmax()) == distances.index(min(distances))
        assert row.tolist() == pytest.approx([-(distance**2) for distance in distances])


@of_numbers
def test_the_loss_is_the_squared_distance_and_its_gradient_that_of_autograd(config):
    """In float64, against the mean squared error of torch on the number itself."""
    settings = {"training.loss": "squared_distance", "training.dtype": "float64", "training.steps": 1}
    values = {"task": {"name": "plain_division", "p": 7}, "model": config.model_dump(), "threads": 1}
    trainer = Trainer(TrainConfig.make(values, **settings))
    first = next(iter(trainer))
    assert first.metrics is not None
    rows = trainer.split.train
    right = torch.tensor([a / b for a, b in QUOTIENTS.pairs[rows].tolist()], dtype=torch.float64)
    model = config.hooked(QUOTIENTS.reads, trainer.weights, torch.float64)
    numbers_given: list[Tensor] = []
    with model.hooks([("hook_number", lambda x, hook: numbers_given.append(x) or x)]):
        model(QUOTIENTS.inputs[rows])
    loss = torch.nn.functional.mse_loss(numbers_given[0].flatten(), right)
    assert first.metrics["train_loss"] == pytest.approx(float(loss.detach()), rel=1e-12)
    loss.backward()
    for name, gradient in trainer._examples.gradients(None).items():
        theirs = model.get_parameter(name).grad
        torch.testing.assert_close(gradient, theirs, rtol=1e-10, atol=1e-12, msg=name)


def test_the_squared_distance_is_minus_the_logit_of_the_label():
    logits = -torch.tensor([[0.0, 1.0, 4.0], [9.0, 4.0, 1.0]], dtype=torch.float64)
    assert LOSSES["squared_distance"](logits, torch.tensor([0, 1])).tolist() == [0, 4]


@of_numbers
def test_the_short_forward_gives_what_the_hooked_network_gives(config):
    weights = random_weights(config, QUOTIENTS)
    expected, cache = config.hooked(QUOTIENTS.reads, weights, torch.float64).run_with_cache(QUOTIENTS.inputs)
    at_once = at_answer(config, QUOTIENTS.reads, weights, QUOTIENTS.inputs)
    torch.testing.assert_close(at_once["logits"], expected[:, 0].detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(at_once["hook_number"], cache["hook_number"][:, 0].detach())
    bare = gi.View.of_weights(QUOTIENTS, config, weights)
    whole = gi.view(config.hooked(QUOTIENTS.reads, weights, torch.float64), QUOTIENTS)
    torch.testing.assert_close(bare.number, whole.number)
    assert bare.blocks == whole.blocks


@of_numbers
def test_every_hook_changes_the_logits(config):
    model = config.hooked(QUOTIENTS.reads, random_weights(config, QUOTIENTS), torch.float64)
    plain = model(QUOTIENTS.inputs)
    for name in model.hook_dict.keys() - ({"hook_embed"} if "one_hot" in repr(config) else set()):
        with model.hooks([(name, lambda x, hook: x * 1.5 + 0.25)]):
            assert not torch.allclose(model(QUOTIENTS.inputs), plain), name


def test_a_squared_distance_is_refused_of_a_network_that_answers_with_classes():
    for model in ({}, {"kind": "mlp"}):
        with pytest.raises(ConfigError, match="squared_distance is of a number, and this"):
            TrainConfig.make({"model": model, "training": {"loss": "squared_distance"}})
    assert [config.gives_number for config in (ModelConfig(), MLPConfig(), NUMBER, NALUConfig())] == [
        False, False, True, True,
    ]  # fmt: skip


# The NALU


def formula(weights: dict[str, Tensor], x: Tensor, layers: int) -> dict[str, Tensor]:
    """Equations of section 3 of the paper, one example at a time, in plain Python."""
    found: dict[str, list[list[float]]] = {}
    for row in x.tolist():
        values = row
        for layer in range(layers):
            w_hat, m_hat, g_matrix = (
                weights[f"blocks.{layer}.nalu.{name}"].tolist() for name in ("W_hat", "M_hat", "G")
            )
            out = range(len(w_hat[0]))
            w = [[math.tanh(h) / (1 + math.exp(-m)) for h, m in zip(hs, ms, strict=True)]
                 for hs, ms in zip(w_hat, m_hat, strict=True)]  # fmt: skip
            a = [sum(v * w[i][j] for i, v in enumerate(values)) for j in out]
            m = [math.exp(sum(math.log(abs(v) + 1e-7) * w[i][j] for i, v in enumerate(values))) for j in out]
            g = [1 / (1 + math.exp(-sum(v * g_matrix[i][j] for i, v in enumerate(values)))) for j in out]
            values = [g[j] * a[j] + (1 - g[j]) * m[j] for j in out]
            for name, value in (("nalu.hook_gate", g), ("nalu.hook_add", a), ("nalu.hook_multiply", m),
                                ("hook_nalu_out", values)):  # fmt: skip
                found.setdefault(f"blocks.{layer}.{name}", []).append(value)
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in found.items()}


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("task", [QUOTIENTS, make_task("plain_division", p=7, layout="b op a =")])
def test_gate_and_paths_are_those_of_the_paper(layers, task):
    config = NALUConfig(n_layers=layers, width=4)
    weights = random_weights(config, task)
    _, cache = config.hooked(task.reads, weights, torch.float64).run_with_cache(task.inputs)
    torch.testing.assert_close(cache["hook_numbers"][:, 0], task.pairs.double())
    for name, values in formula(weights, task.pairs, layers).items():
        torch.testing.assert_close(cache[name][:, 0], values, rtol=1e-11, atol=1e-11)


def test_weights_that_divide_are_right_everywhere_and_random_ones_are_not():
    config = NALUConfig()
    for task in (QUOTIENTS, make_task("plain_division", p=31)):
        view = gi.view(config.hooked(task.reads, dividing(), torch.float64), task)
        assert view.correct().all()
        assert float(gi.measure("loss.squared_distance", view).sel(part="all")) < 1e-10
        assert float(gi.measure("number.within", view).sel(part="all")) == 1
        assert float(gi.measure("number.relative_error", view).sel(part="all")) < 1e-5
        assert float(gi.measure("number.unexplained", view).sel(part="all")) < 1e-10
        wrong = gi.view(config.hooked(task.reads, random_weights(config, task), torch.float64), task)
        assert float(wrong.correct().double().mean()) < 0.3
        assert float(gi.measure("number.unexplained", wrong).sel(part="all")) > 0.1


def test_the_gate_decides_between_quotient_and_difference():
    """Open, the same weights are a - b."""
    model = NALUConfig().hooked(QUOTIENTS.reads, dividing(shut=-30.0), torch.float64)
    _, cache = model.run_with_cache(QUOTIENTS.inputs)
    a, b = QUOTIENTS.pairs.double().unbind(1)
    torch.testing.assert_close(cache["hook_number"].flatten(), a - b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_initial_weights_of_a_nalu_are_uniform_with_the_variance_of_glorot(scale):
    config = NALUConfig(n_layers=3, width=200, init_scale=scale)
    for name, weight in config.initial_weights(QUOTIENTS.reads, 0).items():
        bound = scale * math.sqrt(6 / sum(weight.shape))
        assert float(weight.abs().max()) <= bound, name
        if weight.numel() > 1000:
            assert float(weight.var()) == pytest.approx(bound**2 / 3, rel=0.05)


def learned(tmp_path: Path, **overrides: object) -> gi.Run:
    values = {"threads": 1, "task": {"name": "plain_division", "p": 11}, "model": {"kind": "nalu"}}
    training = {"fraction": 0.8, "loss": "squared_distance", "weight_decay": 0.0, "lr": 0.02, "steps": 1500}
    training |= {"evaluate_every": 100, "dtype": "float64"}
    config = TrainConfig.make({**values, "training": training, "snapshots": {"every": 500}}, **overrides)
    return gi.train(config, tmp_path / "run", progress=False)


@pytest.mark.trains
@pytest.mark.parametrize(("seed", "learns"), [(1, True), (0, False)])
def test_whether_a_nalu_learns_to_divide_hangs_on_its_seed(tmp_path, seed, learns):
    run = learned(tmp_path, seed=seed)
    view = gi.load_run(run.path).view(-1)
    last = run.history.iloc[-1]
    assert (last.test_accuracy == 1, last.test_loss < 1e-4) == (learns, learns)
    of_part = gi.measure("loss.squared_distance", view)
    assert float(of_part.sel(part="test")) == pytest.approx(last.test_loss, rel=1e-6)
    for read in (lambda: view.W_E, lambda: view.W_U, lambda: view.neurons, lambda: view.attention):
        with pytest.raises(NotApplicable):
            read()


def test_a_nalu_that_diverges_ends_as_any_run_does(tmp_path):
    with pytest.raises(Diverged, match=r"training diverged: the (loss|gradient) became NaN or infinite"):
        learned(tmp_path, **{"training.lr": 1e6, "training.weight_decay": 1e6, "training.dtype": "float32"})
    assert gi.load_run(tmp_path / "run").diverged


# Errors of the number


def test_errors_of_the_number_are_those_of_plain_arithmetic():
    config = NUMBER
    trainer = Trainer(
        TrainConfig.make(
            {"task": {"name": "plain_division", "p": 7}, "model": config.model_dump()},
            **{"training.loss": "squared_distance"},
        )
    )
    view = trainer._view()
    task = view.task
    right = [float(Fraction(a, b)) for a, b in task.pairs.tolist()]
    rows = {"train": trainer.split.train, "test": trainer.split.test, "all": torch.arange(len(right))}
    for part, some in rows.items():
        given = [float(view.number[i]) for i in some.tolist()]
        true = [right[i] for i in some.tolist()]
        squares = [(x - y) ** 2 for x, y in zip(given, true, strict=True)]
        mean = sum(true) / len(true)
        relative = sorted(abs(x - y) / y for x, y in zip(given, true, strict=True) if y)
        middle = (relative[(len(relative) - 1) // 2] + relative[len(relative) // 2]) / 2
        expected = {
            "loss.squared_distance": sum(squares) / len(squares),
            "number.within": sum(abs(x - y) <= 0.01 for x, y in zip(given, true, strict=True)) / len(true),
            "number.unexplained": sum(squares) / sum((y - mean) ** 2 for y in true),
            "number.relative_error": middle,
        }
        for name, value in expected.items():
            assert float(gi.measure(name, view).sel(part=part)) == pytest.approx(value, rel=1e-12), (
                name,
                part,
            )


def test_a_network_that_answers_with_classes_gives_no_number():
    model = MLPConfig(d_model=4, d_mlp=8)
    view = gi.View.of_weights(QUOTIENTS, model, random_weights(model, QUOTIENTS))
    for name in ("loss.squared_distance", "number.within", "number.unexplained", "number.relative_error"):
        with pytest.raises(NotApplicable, match="the network answers with classes, not with a number"):
            gi.measure(name, view)


# What is said of it


def small_run(tmp_path: Path, **overrides: object) -> gi.Run:
    settings = {"task.p": 7, "task.reading": "quotient", "training.steps": 40, "threads": 1}
    return gi.train(
        TrainConfig.of_task("plain_division", **{**settings, **overrides}), tmp_path / "run", progress=False
    )


def percent_of(marks: list[bool]) -> str:
    share = 100 * sum(marks) / len(marks)
    return "0 %" if share == 0 else "100 %" if share == 100 else f"{share:.1f} %"


@pytest.mark.parametrize("reading", ["quotient", "integer"])
def test_a_report_opens_with_what_is_right_beside_the_commonest_answer(tmp_path, reading):
    run = small_run(tmp_path, **{"task.reading": reading})
    analysis = analysis_of(run)
    section = opening(analysis)
    task, split = run.task, run.split
    trained = {int(task.targets[i]) for i in split.train}
    right = dict(enumerate(run.view(-1).correct().tolist()))
    test = split.test.tolist()
    new = [i for i in test if int(task.targets[i]) not in trained]
    other = [i for i in test if task.answer_names[task.targets[i]] != "0"]
    said = section.lead
    assert (
        f"Of {len(test)} unseen pairs {percent_of([right[i] for i in test])} are right (95 % interval" in said
    )
    majority = {"quotient": "14.3 %", "integer": "50.0 %"}[reading]
    assert f"always giving the commonest, 0, is right for {majority} of all pairs." in said
    assert f"another answer than that, {percent_of([right[i] for i in other])} are right." in said
    of_new = f"{percent_of([i in new for i in test])} of the unseen pairs have an answer that no training"
    assert (of_new in said) == bool(new) == (reading == "quotient")
    assert "circle" not in said
    assert "number" not in said
    (panel,) = section.panels
    marks = sum(len(trace.x) for trace in panel.body.figure.data)
    assert marks == len(task.pairs)
    assert said in gi.analyze(run, progress=False).to_html()


def test_a_report_on_a_number_says_how_far_it_is_off_and_of_no_nats(tmp_path):
    run = small_run(tmp_path, **{"model.readout": "number", "training.loss": "squared_distance"})
    analysis = analysis_of(run)
    section = opening(analysis)
    view, rows = run.view(-1), run.split.test
    right = torch.tensor([a / b for a, b in run.task.pairs[rows].tolist()], dtype=torch.float64)
    apart = (view.number[rows] - right).abs()
    left = float(apart.square().mean() / right.var(correction=0))
    assert (
        f"{percent_of((apart <= 0.01).tolist())} of the numbers of unseen pairs are at most 0.01 off"
        in section.lead
    )
    assert f"and {left:.3g} of their variance is left unexplained." in section.lead
    assert [panel.title for panel in section.panels] == ["Where it is right", "How far off the number is"]
    names = [name for name, _ in page.facts(analysis)]
    assert "Squared distance" in names
    assert "Loss" not in names


def test_a_report_on_division_mod_p_opens_with_neither(tmp_path):
    config = TrainConfig.of_task("modular_division", **{"task.p": 7, "training.steps": 20, "threads": 1})
    run = gi.train(config, tmp_path / "run", progress=False)
    assert opening(analysis_of(run)) is None


@pytest.mark.parametrize(
    "model",
    [{"kind": "nalu", "n_layers": 2}, {"kind": "mlp", "d_model": 8, "d_mlp": 16, "readout": "number"}],
)
def test_of_runs_that_are_stacked_each_is_the_run_that_it_is_alone(model):
    values = {"task": {"name": "plain_division", "p": 5}, "model": model, "threads": 1}
    training = {"loss": "squared_distance", "steps": 20, "dtype": "float64", "weight_decay": 0.1}
    asked = [TrainConfig.make({**values, "training": training, "seed": seed}) for seed in (0, 1)]
    found: dict[int, list[Snapshot]] = {0: [], 1: []}
    for number, snapshot in BatchedTrainer(asked):
        assert isinstance(snapshot, Snapshot)
        found[number].append(snapshot)
    for config, together in zip(asked, found.values(), strict=True):
        for one, other in zip(Trainer(config), together, strict=True):
            assert one.metrics == pytest.approx(other.metrics, rel=1e-8)
