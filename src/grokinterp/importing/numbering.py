"""Elements that a file numbers in another order than the documented one: found from the table of answers, and
put in that order when it is imported.

A network knows a group's elements by their tokens alone, so its author may have numbered them in any order.
The answers to all pairs are the group's table under these numbers; an isomorphism onto the documented table
(tasks/isomorphism.py) says which element each number is. Then rows of the embedding and columns of the
unembedding change places, and the network is one of the documented task.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ..models import KINDS, Weights
from ..tasks import Isotope, groups, isomorphism, nearest_isotope
from ..tasks.table import Table, group_identity

_MOST_NAMED = 4
"""Elements that are named in a sentence."""
_A_GROUPS = 0.9
"""The share of answers from which they are called a group's."""


@dataclass(frozen=True, eq=False)
class Numbering:
    """Which element of the documented task each number of a file is.

    Attributes:
        a: the element of each number, as first operand.
        b: the same as second operand.
        answers: the same as answer.
        generators: numbers of the file, the images of which say what all others are.
        n_found: how many numberings fit as well: the automorphisms of the group.
    """

    a: Int[Tensor, "p"]
    b: Int[Tensor, "p"]
    answers: Int[Tensor, "p"]
    generators: list[int]
    n_found: int

    @property
    def places(self) -> dict[str, Int[Tensor, "p"]]:
        """By what is numbered: "elements", where it is the same for operands and answers."""
        if torch.equal(self.a, self.b):
            if torch.equal(self.a, self.answers):
                return {"elements": self.a}
            return {"operands": self.a, "answers": self.answers}
        return {"a": self.a, "b": self.b, "answers": self.answers}

    @property
    def nats(self) -> float:
        """The logarithm of how many numberings there could be."""
        return len(self.places) * math.lgamma(len(self.a) + 1)

    @property
    def record(self) -> dict[str, list[int]]:
        """What run.json says of it: the documented number of each number of the file."""
        return {place: at.tolist() for place, at in self.places.items()}

    def table(self, documented: Table) -> Table:
        """A documented table under the numbers of the file."""
        return self.answers.argsort()[documented[self.a][:, self.b]]

    def renumbered(self, weights: Weights, kind: str) -> Weights:
        """The weights of the network that has the documented numbers; tokens and logits that are no elements
        stay where they are."""
        axes, one_hot = KINDS[kind].axes, not any(name.endswith("W_E") for name in weights)
        return {
            name: self._moved(name, weight, axes.get(name, ""), one_hot) for name, weight in weights.items()
        }

    def _moved(self, name: str, weight: Tensor, axes: str, one_hot: bool) -> Tensor:
        if "(operand vocab)" in axes and one_hot:
            halves = weight.chunk(2)
            return torch.cat([_moved(half, 0, at) for half, at in zip(halves, (self.a, self.b), strict=True)])
        if axes == "vocab d_model":
            return _moved(weight, 0, self.b if name.startswith("embed_b.") else self.a)
        return _moved(weight, -1, self.answers) if axes.endswith("out") and "unembed" in name else weight

    def sentences(self, names: Sequence[str], symbol: str) -> Iterator[str]:
        """What is said of it, where elements have those names."""
        moved = [i for i, at in enumerate(self.answers.tolist()) if at != i]
        shown = ", ".join(f"{i} is {names[int(self.answers[i])]}" for i in moved[:_MOST_NAMED])
        more = f" and {len(moved) - _MOST_NAMED} more" if len(moved) > _MOST_NAMED else ""
        text = f"its elements are NUMBERED in another order than those of {symbol} here"
        if len(self.places) > 1:
            text += f", and {' and '.join(self.places)} differently (an isotopism)"
        of = "its answer" if len(self.places) > 1 else "its number"
        text += f": {of} {shown}{more}. " if moved else ": its answers alone are as here. "
        images = " and ".join(f"{g} is {names[int(self.answers[g])]}" for g in self.generators)
        text += f"Found from the table of its answers, in which {images}; it was imported renumbered: "
        yield text + "rows of W_E and columns of W_U changed places (run.json: task.numbering)"
        if self.n_found > 1:
            yield (
                f"{self.n_found:,} numberings fit as well (the automorphisms of the group): taken was the "
                "first of those that leave most numbers as they are. No measure depends on it, but for which "
                "of several representations of one dimension has which name"
            )


def _moved(weight: Tensor, axis: int, at: Int[Tensor, "p"]) -> Tensor:
    """With what stood at each number i at the number at[i]."""
    places = torch.cat([at.argsort(), torch.arange(len(at), weight.shape[axis])])
    return weight.index_select(axis, places).contiguous()


def find_numbering(answers: Table, documented: Sequence[Table], shared: bool) -> tuple[int, Numbering] | None:
    """Which of several documented groups has the table of these answers, some of which may be wrong, and how
    it is numbered; None where none has.

    Of several groups, as D3 and S3, and of several numberings, that under which most answers have their
    documented numbers; but a group under its own name before an operation that is one, as a + b for even
    a and a − b for odd a, mod 2 n, is D_n.

    Args:
        answers: to every pair, by the numbers of the file.
        documented: tables; those that are of no group are passed over.
        shared: whether the network knows first and second operands by one embedding.
    """
    if (isotope := nearest_isotope(answers)) is None or (places := _places(isotope, shared)) is None:
        return None
    named = [groups.cayley_table(name) for name in groups.of_order(len(answers))]
    best: tuple[tuple[bool, int], int, Numbering] | None = None
    for i, table in enumerate(documented):
        if len(table) != len(answers) or group_identity(table) is None:
            continue
        if (found := isomorphism(isotope.product, table)) is None:
            continue
        rank = any(torch.equal(table, one) for one in named), found.n_same
        if best is None or rank > best[0]:
            a, b, c = (found.image[place] for place in places)
            best = rank, i, Numbering(a, b, c, found.generators, found.n_found)
    return None if best is None else best[1:]


def _places(isotope: Isotope, shared: bool) -> tuple[Tensor, Tensor, Tensor] | None:
    """The element of the isotope's group that each number is as a, as b and as answer."""
    numbers = torch.arange(len(isotope.a))
    if torch.equal(isotope.a, numbers) and torch.equal(isotope.b, numbers):
        return numbers, numbers, numbers
    if (same := isotope.shares_operands()) is not None:
        operands, answers = same
        # So that the answers have the numbers in which the group's table is written.
        return operands, operands, answers
    return None if shared else (isotope.a, isotope.b, numbers)


def may_be_a_group(answers: Int[Tensor, "lines p"]) -> bool:
    """Whether rows and columns of a table may be those of a group: in these hardly an answer is twice. Of
    answers by chance a share of 1 - 1/e is different."""
    different = sum(len(line.unique()) for line in answers)
    return different > 0.7 * answers.numel()


def in_words(answers: Table) -> str | None:
    """Of which group these are the answers, names aside; None where they are those of none."""
    isotope = nearest_isotope(answers)
    if isotope is None:
        return None
    product, p = isotope.product, len(answers)
    if float((answers == product[isotope.a][:, isotope.b]).double().mean()) < _A_GROUPS:
        return None
    kind = "commutative" if torch.equal(product, product.T) else "not commutative"
    group = f"a group of order {p}, {kind}"
    known = groups.of_order(p)
    same = [name for name in known if isomorphism(product, groups.cayley_table(name)) is not None]
    is_which = f" ({' or '.join(same)})" if same else f", which is none of {', '.join(known)}"
    if torch.equal(isotope.a, isotope.b) and torch.equal(isotope.a, torch.arange(p)):
        said = f"its answers are the table of {group}{is_which}"
        if not same:
            return said
        is_cyclic = same[0].startswith("C")
        flags = "modular_addition" if is_cyclic else f"group_composition --set task.group={same[0]}"
        return f"{said}, as --task {flags} says"
    what = "under other names of the first operands, of the second and of the answers, as a b⁻¹ is of a b"
    return f"its answers are those of {group}{is_which}, {what}"


def of_two_tasks(answers: Table, tables: dict[str, Any]) -> str | None:
    """The two tasks that each do a share of the rows, by the first operand, or of the columns, by the second;
    None where there are none such."""
    for by, turned in (("first", False), ("second", True)):
        right = {
            name: ((answers == table).T if turned else answers == table).double().mean(1) >= _A_GROUPS
            for name, table in tables.items()
        }
        for one, rows in right.items():
            for other, rest in right.items():
                n, m = int(rows.sum()), int((rest & ~rows).sum())
                if n >= m >= len(rows) / 5 and n + m >= _A_GROUPS * len(rows):
                    said = f"it does two tasks, by its {by} operand"
                    return f"{said}: {one} for {n} of {len(rows)}, {other} for {m}"
    return None
