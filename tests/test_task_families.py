"""What every task has in common, whatever its family: a sample, answers, factors, groups, fresh examples."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import pytest
import torch

import grokinterp as gi
from grokinterp.errors import ConfigError, NotApplicable
from grokinterp.models import ModelConfig
from grokinterp.tasks import (
    TASKS,
    Factor,
    Operation,
    Reads,
    Sample,
    Task,
    make_task,
    split,
    task,
    task_parameters,
)
from grokinterp.training.batches import Fresh, Rows


@dataclass(frozen=True)
class Parity(Task):
    """Whether a word of bits has an odd number of ones: a task that is no table."""

    length: int = 4
    n: int = 64

    @cached_property
    def sample(self) -> Sample:
        return self.draw(self.n, torch.Generator().manual_seed(0))

    @cached_property
    def reads(self) -> Reads:
        words = tuple(f"bit {i}" for i in range(self.length))
        return Reads((self.length,), 2, words, ("parity",), (self.length - 1,), 2, 2, self.name)

    @cached_property
    def factors(self):
        return {"ones": Factor(self.sample.inputs.sum(1), tuple(map(str, range(self.length + 1))))}

    @property
    def together(self):
        return self.factors["ones"].values

    def draw(self, n, generator):
        bits = torch.randint(2, (n, self.length), generator=generator)
        return Sample(bits, bits.sum(1, keepdim=True) % 2)


@pytest.fixture
def parity(monkeypatch):
    """A task of that family, registered."""

    def parity(length: int = 4, n: int = 64) -> Parity:
        """Whether the number of ones is odd."""
        return Parity(length=length, n=n, symbol=f"parity of {length} bits")

    monkeypatch.setitem(TASKS, "parity", parity)
    return make_task("parity", length=5)


# Families


def test_a_task_of_any_family_is_made_by_name(parity):
    assert (parity.name, parity.params) == ("parity", {"length": 5, "n": 64})
    assert parity.symbol == "parity of 5 bits"
    assert parity.n_inputs == 64
    assert torch.equal(parity.targets, parity.inputs.sum(1) % 2)
    assert parity.chance == float(parity.targets.bincount().max()) / 64


def test_what_is_of_one_family_is_no_parameter_of_another(parity):
    assert set(task_parameters("parity").model_fields) == {"length", "n"}
    assert {"opaque", "noise"} <= set(task_parameters("modular_addition").model_fields)
    with pytest.raises(ConfigError, match=r"^unknown key 'task\.noise'"):
        make_task("parity", noise={"kind": "uniform"})


def test_a_function_that_says_only_that_it_makes_a_task_makes_an_operation(monkeypatch):
    for name in ("one", "other"):
        monkeypatch.delitem(TASKS, name, raising=False)

    @task
    def one(p: int = 5) -> gi.Task:
        return gi.Task.of_function(lambda a, b: (a * b + 1) % p, p)

    @task
    def other(p: int = 5):
        return gi.Operation(p, lambda a, b: (a - b) % p, symbol="a − b")

    for name in ("one", "other"):
        made = make_task(name, p=7, noise={"kind": "uniform", "share": 0.5})
        assert isinstance(made, Operation)
        assert made.noise is not None
        TASKS.pop(name)


def test_a_function_that_makes_another_family_than_it_says_is_refused(monkeypatch):
    def wrong() -> Operation:
        return Parity()  # type: ignore[return-value]

    monkeypatch.setitem(TASKS, "wrong", wrong)
    with pytest.raises(
        ConfigError, match=r"^task wrong: its function returns Parity and is annotated to return Operation"
    ):
        make_task("wrong")


def test_an_operation_is_a_task_whose_sample_is_its_table():
    made = make_task("modular_division", p=5)
    assert isinstance(made, Task)
    assert len(made.sample) == made.n_inputs == 20
    assert torch.equal(made.sample.answers, made.targets[:, None])
    a, b, answer = (made.factors[name].values for name in ("a", "b", "answer"))
    assert torch.equal(torch.stack([a, b], 1), made.pairs)
    assert torch.equal(answer * b % 5, a)
    assert made.factors["a"].names == ("0", "1", "2", "3", "4")


# Samples and factors


def test_a_sample_whose_answers_do_not_fit_is_refused():
    for inputs, answers in [((3, 2), (2, 1)), ((3, 2), (3,)), ((0, 2), (0, 1))]:
        with pytest.raises(
            ConfigError, match=r"^a sample needs examples \[n, \.\.\.\] and their answers \[n, answer\]"
        ):
            Sample(torch.zeros(inputs, dtype=torch.long), torch.zeros(answers, dtype=torch.long))


def test_a_factor_that_says_nothing_of_an_example_is_refused():
    with pytest.raises(ConfigError, match="a factor is NaN at example 1"):
        Factor(torch.tensor([0.0, float("nan")]))
    with pytest.raises(ConfigError, match="classes 0 to 2, and names for 2"):
        Factor(torch.tensor([0, 2]), ("even", "odd"))
    assert Factor(torch.tensor([0.5, 2.0])).names == ()


def test_an_answer_that_is_not_asked_is_neither_right_nor_wrong(parity):
    sample = Sample(torch.zeros(3, 2, dtype=torch.long), torch.tensor([[1, 2], [1, -1], [0, 0]]))

    @dataclass(frozen=True)
    class Asked(Parity):
        @property
        def sample(self):
            return sample

    given = torch.tensor([[1, 2], [1, 7], [0, 1]])
    assert Asked().right(given)["exact"].tolist() == [True, True, False]


@dataclass(frozen=True)
class Wrong(Parity):
    """A word of bits that says something false of itself."""

    what: str = ""

    @property
    def together(self):
        return torch.zeros(self.n // 2) if self.what == "together" else None

    @cached_property
    def sample(self) -> Sample:
        made = super().draw(self.n, torch.Generator().manual_seed(0))
        changes = {
            "long": (made.inputs[:, :-1], made.answers),
            "two answers": (made.inputs, made.answers.repeat(1, 2)),
            "token": (made.inputs + 1, made.answers),
            "class": (made.inputs, made.answers * 2),
            "numbers": (made.inputs, made.answers / 2),
            "unasked": (made.inputs, made.answers * 0 - 1),
        }
        return Sample(*changes.get(self.what, (made.inputs, made.answers)))

    @cached_property
    def factors(self):
        return {"odd": Factor(torch.zeros(self.n - 1))} if self.what == "factor" else {}

    def groups(self, split):
        rows = torch.zeros(self.n, dtype=torch.bool)
        return {"empty": {"empty": rows}, "short": {"short": rows[1:]}, "part": {"train": ~rows}}.get(
            self.what, {}
        )

    def right(self, given):
        if self.what == "raises":
            raise ZeroDivisionError("division by zero")
        exact = (given == self.sample.answers).all(1)
        return {"exact": exact, "low": exact.double() if self.what == "number" else exact}


FAULTS = {
    "long": "its sample has examples of shape [3], and needs [4]",
    "two answers": "its sample has 2 columns of answers, and needs 1: parity",
    "token": "its sample has tokens 1 to 2, and needs 0 to 1",
    "class": "its sample has classes 0 to 2, and needs 0 to 1",
    "unasked": "its sample has an answer parity that is never asked, and needs some examples of it",
    "factor": "its sample has a factor 'odd' of 63 examples, and needs one of 64",
    "together": "together has the shape [32], and needs [64]",
    "part": "no group can be called 'train', which is a part of any sample",
    "numbers": "its sample has answers that are no whole numbers",
    "empty": "the group 'empty' has no examples: leave it out",
    "short": "the group 'short' is [63] of torch.bool: give a tensor of 64 booleans, one for each example",
    "raises": "right() raised ZeroDivisionError: division by zero",
    "number": "the criterion 'low' is [64] of torch.float64: "
    "give a tensor of 64 booleans, one for each example",
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_task_that_contradicts_itself_is_told_in_one_line(what):
    network, wrong = ModelConfig(d_model=8, n_heads=2, d_mlp=8), Wrong(what=what, name="wrong")

    def looked_at() -> None:
        view = gi.View.of_weights(wrong, network, network.initial_weights(wrong.reads, 0))
        gi.measure("loss", view)
        gi.measure("accuracy.by_criterion", view)

    with pytest.raises(ConfigError, match=f"^wrong: {re.escape(FAULTS[what])}$"):
        looked_at()


def test_a_task_may_judge_its_answers_itself():
    network, lenient = ModelConfig(d_model=8, n_heads=2, d_mlp=8), Wrong(name="wrong")
    view = gi.View.of_weights(lenient, network, network.initial_weights(lenient.reads, 0))
    shares = gi.measure("accuracy.by_criterion", view)
    assert shares.dims == ("criterion", "part")
    assert float(shares.sel(criterion="low", part="all")) == float(view.correct().double().mean())
    assert not gi.MEASURES["accuracy.by_criterion"].applies_to(gi.make_task("reverse"))


# Splits


def test_a_split_keeps_bundles_whole(parity):
    together = parity.together
    parts = split(parity.n_inputs, 0.5, together=together)
    assert sorted([*parts.train.tolist(), *parts.test.tolist()]) == list(range(64))
    assert not set(together[parts.train].tolist()) & set(together[parts.test].tolist())
    n_bundles = len(together.unique())
    assert len(together[parts.train].unique()) == n_bundles // 2
    assert torch.equal(split(64, 0.5, together=together).train, parts.train)
    assert not torch.equal(
        split(64, 0.5, seed=1, together=together).train.sort().values, parts.train.sort().values
    )


def test_bundles_of_one_row_are_split_as_rows_are():
    for recipe in ("python_shuffle", "torch_randperm"):
        plain = split(30, 0.4, recipe, 3)
        assert torch.equal(split(30, 0.4, recipe, 3, together=torch.arange(30)).train, plain.train)


def test_one_bundle_cannot_be_split():
    with pytest.raises(ConfigError, match="leaves 0 to train on"):
        split(6, 0.5, together=torch.zeros(6, dtype=torch.long))


# Where examples come from


def test_fresh_examples_depend_on_the_seed_and_the_number_of_the_batch_alone(parity):
    stream, again, other = Fresh(parity, 16, 3), Fresh(parity, 16, 3), Fresh(parity, 16, 4)
    drawn = [stream.batch(number) for number in range(4)]
    assert len({tuple(sample.inputs.flatten().tolist()) for sample in drawn}) == 4
    assert torch.equal(again.batch(2).inputs, drawn[2].inputs)
    assert not torch.equal(other.batch(0).inputs, drawn[0].inputs)


def test_seeds_that_differ_above_32_bits_would_not_do():
    """Why the number of the batch is not put into the high bits of a seed."""
    one, same = (torch.Generator().manual_seed(seed) for seed in (5, 5 + 2**32))
    assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=same))


def test_a_finite_task_says_that_it_has_no_fresh_examples():
    with pytest.raises(
        NotApplicable, match="modular_addition has no fresh examples: its sample is all that there is"
    ):
        Fresh(make_task("modular_addition", p=5), 4, 0).batch(0)


def test_every_row_comes_once_an_epoch_and_a_restored_stream_goes_on():
    rows = torch.tensor([3, 5, 8, 13, 21])
    batches = Rows(rows, 2, seed=0)
    epoch = [batches.following() for _ in range(3)]
    assert [len(batch) for batch in epoch] == [2, 2, 1]
    assert sorted(torch.cat(epoch).tolist()) == rows.tolist()
    batches.following()
    tensors, data = batches.state()
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    expected = [batches.following().tolist() for _ in range(6)]
    restored = Rows(rows, 2, seed=9)
    restored.load(tensors, data)
    assert [restored.following().tolist() for _ in range(6)] == expected
    assert Rows(rows, 5, 0).following() is None
    assert Rows(rows, None, 0).full
