"""That tests check what annotations say: on functions of these lines, and on the package's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jaxtyping
import numpy as np
import pytest
import torch
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, Int, TypeCheckError
from torch import Tensor

from grokinterp import fourier
from grokinterp.measures.standing import Examples

if TYPE_CHECKING:
    from nowhere import Unknown

checked = jaxtyping.jaxtyped(typechecker=beartype)
refused = pytest.raises((BeartypeCallHintViolation, TypeCheckError))


@checked
def product(x: Float[Tensor, "n m"], *, y: Float[Tensor, "m k"] | None = None) -> Float[Tensor, "n k"]:
    return x if y is None else x @ y


@checked
def listed(xs: list[Float[np.ndarray, "n"]], by_name: dict[str, Int[Tensor, "n"]]) -> int:
    return len(xs)


@checked
def plain(word: str, times: int = 2) -> str:
    return word if times == 0 else word * times if times > 0 else times


@checked
def other_shape(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    return x.repeat(2)


@checked
def each(xs: Float[Tensor, "n m"]) -> Iterator[Float[Tensor, "m"]]:
    yield from xs


@checked
def for_mypy_alone(x: Unknown, y: int) -> int:
    return y


@checked
@dataclass
class Pair:
    x: Float[Tensor, "n"]
    y: Float[Tensor, "n"]
    name: str = ""

    @checked
    def with_both(self, z: Float[Tensor, "n"], w: Float[Tensor, "n"]) -> None:
        pass


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


def test_what_fits_passes():
    assert product(ones(2, 3), y=ones(3, 4)).shape == (2, 4)
    assert product(ones(5, 5)).shape == (5, 5)  # another n than before
    assert listed([np.ones(3), np.ones(3)], {"a": torch.arange(3)}) == 2
    assert plain("a") == plain("a", times=2) == "aa"
    assert [len(row) for row in each(ones(2, 3))] == [3, 3]
    assert for_mypy_alone(object(), 1) == 1
    Pair(ones(3), ones(3)).with_both(ones(4), ones(4))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: product(ones(2)),  # rank
        lambda: product(torch.ones(2, 2, dtype=torch.long)),  # kind of number
        lambda: product(ones(2, 3), y=ones(4, 3)),  # m is not m
        lambda: other_shape(ones(2)),
        lambda: listed([np.ones(3)], {"a": torch.arange(2)}),
        lambda: listed([np.ones((3, 1))], {}),
        lambda: plain(3),
        lambda: plain("a", times="b"),
        lambda: plain("a", -1),  # what it gives
        lambda: each(ones(2)),
        lambda: for_mypy_alone(object(), "y"),
        lambda: Pair(ones(3), ones(2)),
        lambda: Pair(ones(3), ones(3), name=3),
        lambda: Pair(ones(3), ones(3)).with_both(ones(4), ones(5)),
    ],
)
def test_what_does_not_fit_is_refused(wrong):
    with refused:
        wrong()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: fourier.transform_2d(torch.ones(3, 4, dtype=torch.float64)),
        lambda: fourier.transform(torch.ones(3)),
        lambda: fourier.n_frequencies(7.0),
        lambda: Examples(chance="0.1", train=1, test=1, all=2),
    ],
)
def test_the_package_is_checked(wrong):
    with refused:
        wrong()


def test_functions_that_one_line_makes_are_checked_alike_and_are_each_their_own():
    def made(by: int, start: int, only: str):
        @checked
        def scaled(x: Int[Tensor, "n"], first: int = start, *, last: str = only) -> Int[Tensor, "n"]:
            return x * by + first if last == only else x[1:]

        return scaled

    twice, thrice = made(2, 0, "a"), made(3, 1, "b")
    x = torch.arange(3)
    assert twice(x).tolist() == [0, 2, 4]
    assert thrice(x).tolist() == [1, 4, 7]
    for function in (twice, thrice):
        with refused:
            function(x.double())
        with refused:
            function(x, last="neither")  # what it gives is shorter
        with refused:
            function(x, last=3)
    assert (twice.__name__, twice.__annotations__["first"]) == ("scaled", "int")


def test_records_of_the_same_fields_are_told_apart_by_their_types():
    def made(kind: str):
        return checked(dataclass(type("Record", (), {"__annotations__": {"x": kind}})))

    assert made("int")(1).x == 1
    assert made("str")("1").x == "1"
    with refused:
        made("str")(1)
