"""Representations: the measures of Chughtai et al. 2023 (arXiv 2302.03025), for every finite group.

An irreducible representation ρ of dimension d gives d² functions on the group, its matrix elements. Their
span is found from the group's table alone, as an eigenspace of a sum over conjugacy classes, and comes with
an orthonormal basis: the rotations of a cyclic group give two functions each, not four. (The published code
orthogonalises four columns of rank two, which inflates its "MLP FVE" and "restricted loss" of cyclic groups:
on C113_T_seed1 2.26e-2 is printed where the true value is 6.1e-7.) Pairs of complex conjugates count as one,
real representation. For addition mod p, representation k is frequency k: of a cyclic group the elements are
those on its circle, which is why this file, alone here, asks `waves.circular`.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from ...errors import NotApplicable, UsageError, nearest
from ...fourier import directions
from ...tasks import Operation
from ...tasks.table import group_identity
from ...view import View
from ..base import Value, array, once_per_view, per_part
from ..neurons import direct_readout
from ..operands import loss_and_accuracy, measure, read_by_perceptron
from ..waves.circular import circular

KEY_COSINE = 0.005
"""A representation is key where the cosine of the logits with its character is above this (Chughtai et al.
2023, released code).

In a group of fewer than 55 elements chance comes near it: there, more than twice 1/√(examples · order) is
asked for, which is the spread of the cosine for logits of noise.
"""
UNSEEN = 3.0
"""And where it is known which examples were trained on, on the others the mean of their products with the
character must be above 0 by this many of its standard errors. Any network that knows some examples by heart
has, over all of them, a share of every representation: the right answer is where a b c⁻¹ is the identity, and
there all characters are largest.
"""
_FEW = 5
"""Of fewer representations all may well be in use."""


@dataclass(frozen=True)
class Irrep:
    """A non-trivial irreducible real representation.

    Attributes:
        name: the frequency for a cyclic group; else its dimension, and a number where several have it.
        functions: an orthonormal basis of the span of its matrix elements.
        character: its trace at every element, up to a positive factor.
    """

    name: str
    functions: Float64[Tensor, "function order"]
    character: Float64[Tensor, "order"]


@dataclass(frozen=True)
class Group:
    """A group as a network meets it.

    Attributes:
        rows: the examples a ∘ b = c of which all three are elements.
        a: the number of a in the group, for each of the rows.
        b: the same for b.
        product: the same for a b.
        members: the answer that each group element is.
        left: for group elements x and c, the number of x c⁻¹.
        irreps: all but the trivial one.
    """

    rows: Int[Tensor, "rows"]
    a: Int[Tensor, "rows"]
    b: Int[Tensor, "rows"]
    product: Int[Tensor, "rows"]
    members: Int[Tensor, "order"]
    left: Int[Tensor, "order order"]
    irreps: list[Irrep]

    @property
    def names(self) -> list[str]:
        """Of the representations."""
        return [irrep.name for irrep in self.irreps]


@once_per_view
def group_of(view: View) -> Group:
    """The group that the task is the product of.

    Raises:
        NotApplicable: its table is that of no group.
    """
    task = Operation.of(view.task)
    if task.circle is not None:
        z = circular(view)
        if not z.circle.is_sum:
            raise NotApplicable(f"{task.symbol} is the product of no group")
        i, j = z.operands_at.unbind(1)
        x = torch.arange(z.m)
        waves = [Irrep(str(k), wave, wave[0]) for k in z.frequencies for wave in (directions(z.m, k),)]
        return Group(z.on_circle, i, j, z.answer_at, z.circle.c, (x[:, None] - x) % z.m, waves)
    if (identity := group_identity(task.table)) is None:
        raise NotApplicable(f"{task.symbol} is the product of no group")
    left = task.table[:, (task.table == identity).long().argmax(1)]
    a, b = task.pairs.unbind(1)
    rows, elements = torch.arange(task.n_inputs), torch.arange(task.p)
    return Group(rows, a, b, view.targets, elements, left, irreps_of(task.table))


def irreps_of(table: Int[Tensor, "order order"]) -> list[Irrep]:
    """The non-trivial irreducible real representations of a group, by dimension, from its table.

    The sum over a conjugacy class commutes with everything, so on each span of matrix elements it is one
    number. A sum with random weights (the same for a class and its inverses: symmetric) tells them all apart.
    """
    order = len(table)
    identity = int((table == torch.arange(order)).all(1).nonzero())
    inverse = (table == identity).long().argmax(1)
    conjugates = table[table, inverse[:, None]]  # [g, x] -> g x g⁻¹
    least = conjugates.min(0).values
    least = torch.minimum(least, least[inverse])  # one number for a class and its inverse
    weight = torch.rand(order, dtype=torch.float64, generator=torch.Generator().manual_seed(0))[least]
    central = weight[table[inverse]]  # [x, y] -> weight of x⁻¹ y
    values, vectors = torch.linalg.eigh(central)
    spans: list[tuple[Tensor, Tensor]] = []
    edges = (values.diff() > 1e-10 * float(values.abs().max())).nonzero().flatten().add(1).tolist()
    for start, end in itertools.pairwise([0, *edges, order]):
        functions = vectors[:, start:end].T.contiguous()
        # The kernel of the projection on the span is a multiple of the character of x⁻¹ y; here at y = 1.
        character = functions.T @ functions[:, identity]
        if float((character - character[0]).abs().max()) > 1e-9:  # the trivial one is constant
            spans.append((character, functions))
    spans.sort(key=lambda span: (len(span[1]), [-round(float(x), 6) for x in span[0]]))
    sizes = [_dimension(len(functions)) for _, functions in spans]
    irreps = []
    for i, (size, (character, functions)) in enumerate(zip(sizes, spans, strict=True)):
        number = f" #{sizes[: i + 1].count(size)}" if sizes.count(size) > 1 else ""
        irreps.append(Irrep(size + number, functions, character))
    return irreps


def _dimension(n_functions: int) -> str:
    """The dimension of a representation with so many matrix elements: d for d², 2d for a pair of complex ones
    with 2 d²."""
    root = math.isqrt(n_functions)
    return f"dim {root if root**2 == n_functions else 2 * math.isqrt(n_functions // 2)}"


def _centred(view: View) -> Float64[Tensor, "rows order"]:
    logits = view.logits[group_of(view).rows][:, group_of(view).members]
    return logits - logits.mean(1, keepdim=True)


@once_per_view
def irrep_cosines(view: View) -> Float64[Tensor, "irrep"]:
    """Cosine of the centred logits with the character of a b c⁻¹, for every representation; 0 where the
    logits are constant."""
    return _cosines(view, _centred(view))


def _cosines(view: View, logits: Float64[Tensor, "rows order"]) -> Float64[Tensor, "irrep"]:
    group = group_of(view)
    at = group.left[group.product]
    sums = torch.zeros(len(group.members), dtype=torch.float64).index_add_(0, at.flatten(), logits.flatten())
    size = float(logits.norm()) * len(logits) ** 0.5
    cosines = torch.stack([irrep.character @ sums / irrep.character.norm() for irrep in group.irreps])
    return cosines / size if size > 0 else torch.zeros_like(cosines)


@once_per_view
def found_irreps(view: View) -> list[int]:
    """The numbers of the representations that the logits are made of, on unseen examples too."""
    group = group_of(view)
    marks = _above_chance(view, irrep_cosines(view))
    if "test" in view.parts and int((unseen := view.rows("test")[group.rows]).sum()) > 1:
        logits, at = _centred(view)[unseen], group.left[group.product[unseen]]
        for i in marks.nonzero().flatten().tolist():
            products = (group.irreps[i].character[at] * logits).sum(1)
            marks[i] = products.mean() > UNSEEN * products.std() / len(products) ** 0.5
    return marks.nonzero().flatten().tolist()


def _above_chance(view: View, cosines: Float64[Tensor, "irrep"]) -> Bool[Tensor, "irrep"]:
    """Which cosines are those of a key representation, over all examples."""
    group = group_of(view)
    chance = (len(group.rows) * len(group.members)) ** -0.5
    return cosines > max(KEY_COSINE, 2 * chance)


def key_irreps(view: View, irreps: Sequence[str] | None = None) -> list[int]:
    """The numbers of the representations of those names, or of those that the logits are made of.

    Raises:
        UsageError: the group has no such representation.
        NotApplicable: none were named, or the logits are made of none, or of more than half of five or more.
    """
    if irreps is not None:
        named = {_numbered(view, str(name)) for name in ([irreps] if isinstance(irreps, str) else irreps)}
        if not named:
            raise NotApplicable("no representations were asked for")
        return sorted(named)
    if not (of_logits := found_irreps(view)):
        raise NotApplicable("the logits are made of no representation")
    group = group_of(view)
    if len(group.irreps) >= _FEW and 2 * len(of_logits) > len(group.irreps):
        raise NotApplicable(
            f"{len(of_logits)} of {len(group.irreps)} representations, {len(_functions(view, of_logits))} of "
            f"{len(group.members)} dimensions, are keys: with so many left in a projection tells nothing; "
            "irreps= asks for some"
        )
    return of_logits


def _numbered(view: View, name: str) -> int:
    names = group_of(view).names
    if name not in names:
        raise UsageError(f"irreps: {view.task.symbol} has no representation {name!r}{nearest(name, names)}")
    return names.index(name)


@measure(
    "irrep_cosine", unit="1", ref="Chughtai et al. 2023 (arXiv 2302.03025), section 4 (logit similarity)"
)
def irrep_cosine(view: View) -> Value:
    """For each irreducible representation ρ, cosine of the logits (centred over c) with its character, tr
    ρ(a) ρ(b) ρ(c)⁻¹."""
    return array(irrep_cosines(view), "irrep", irrep=group_of(view).names)


@measure(
    "key_irreps",
    unit="1",
    ref="Chughtai et al. 2023, released code (cosine above 0.005); on unseen examples too is ours",
)
def by_cosine(view: View) -> Value:
    """Which representations the logits are made of, on unseen examples too where they are known: those that
    the `*_irreps` measures keep.

    The mean product of the logits of unseen examples with the character must be above 0 by three of its
    standard errors.
    """
    group, keys = group_of(view), found_irreps(view)
    mask = torch.tensor([i in keys for i in range(len(group.irreps))])
    return array(mask, "irrep", irrep=group.names)


@measure(
    "key_irreps.share",
    unit="1",
    ref="here; that of dimensions is what chance gives irrep_fve.W_E and irrep_fve.W_U",
)
def kept_share(view: View) -> Value:
    """How many of the representations are keys, and how many of all dimensions (functions on the group) are
    theirs: as shares.

    A random subspace of as many dimensions holds, on average, the second share of any matrix over the
    elements, so `irrep_fve.W_E` and `irrep_fve.W_U` near it say nothing.
    """
    return _shares(view, found_irreps(view))


@measure(
    "key_irreps.share_memoriser",
    unit="1",
    ref="here: the control of `key_irreps.share`; the rule is that of Chughtai et al. 2023, released code",
)
def kept_by_a_memoriser(view: View) -> Value:
    """How many of the representations, and of all dimensions, a network would have for keys by their cosines
    alone that knows the training examples by heart and nothing else: as shares.

    Where it is not known which examples were trained on, one that knows all of them.
    """
    marks = _above_chance(view, _cosines(view, _by_heart(view)))
    return _shares(view, marks.nonzero().flatten().tolist())


def _shares(view: View, irreps: list[int]) -> Value:
    group = group_of(view)
    dimensions = sum(len(group.irreps[i].functions) for i in irreps)
    shares = [len(irreps) / len(group.irreps), dimensions / len(group.members)]
    return array(shares, "of", of=["representations", "dimensions"])


def _by_heart(view: View) -> Float64[Tensor, "rows order"]:
    """Centred logits that are right on the training examples and alike elsewhere."""
    group = group_of(view)
    by_heart = torch.nn.functional.one_hot(group.product, len(group.members)).double()
    by_heart = by_heart - by_heart.mean(1, keepdim=True)
    if "train" in view.parts:
        by_heart = by_heart * view.rows("train")[group.rows][:, None]
    return by_heart


@measure("irrep_fve.logits", unit="1", ref="Chughtai et al. 2023, table 1 (logit FVE)")
def logits_explained(view: View) -> Value:
    """Share of the variance of the logits, centred over c, that the characters of all representations
    explain."""
    return float(irrep_cosines(view).square().sum())


@measure(
    "irrep_fve.W_E",
    unit="1",
    ref="Chughtai et al. 2023, table 1 (W_E FVE of transformers, W_a and W_b FVE of the MLP)",
)
def embedding_explained(view: View, irreps: Sequence[str] | None = None) -> Value:
    """Share of the squared embedding of each operand, over the elements, in the matrix elements of the key
    representations.

    One value where a and b share a table. Where they do not, the embedding of each is taken times its half of
    W_in, as in the paper.
    """
    circle = Operation.of(view.task).circle
    members = torch.arange(len(group_of(view).members)) if circle is None else circle.a
    shared = "embed.W_E" in view.weights
    tables = {"a, b": view.W_E} if shared else dict(zip("ab", read_by_perceptron(view), strict=True))
    # An operand that stands at its inverse, as the b of a − b, changes no share: x⁻¹ has the matrix elements
    # of x, turned.
    shares = [_explained(view, key_irreps(view, irreps), table[members]) for table in tables.values()]
    return array(shares, "operand", operand=list(tables))


@measure(
    "irrep_fve.W_U",
    unit="1",
    ref="Chughtai et al. 2023, table 1 (W_U FVE, W_U being W_out W_U)",
    gauge=("scale", "shift"),
)
def readout_explained(view: View, irreps: Sequence[str] | None = None) -> Value:
    """Share of the squared W_L, over the answers, in the matrix elements of the key representations."""
    return _explained(view, key_irreps(view, irreps), view.W_L.T[group_of(view).members])


def _explained(view: View, irreps: list[int], matrix: Float64[Tensor, "order width"]) -> float:
    total = float(matrix.square().sum())
    return float((_functions(view, irreps) @ matrix).square().sum()) / total if total > 0 else 0.0


def _functions(view: View, irreps: list[int]) -> Float64[Tensor, "function order"]:
    return torch.cat([group_of(view).irreps[i].functions for i in irreps])


@measure("irrep_fve.neurons", unit="1", ref="Chughtai et al. 2023, table 1 (MLP FVE)", gauge=("scale",))
def neurons_explained(view: View, irreps: Sequence[str] | None = None) -> Value:
    """Share of the variance of the neurons over the table in the matrix elements of the key representations,
    of a, of b and of a b."""
    group = group_of(view)
    return sum(_neurons_along(view, key_irreps(view, irreps), at) for at in (group.a, group.b, group.product))


@measure(
    "irrep_fve.neurons_ab", unit="1", ref="Chughtai et al. 2023, table 1 (MLP ρ(ab) FVE)", gauge=("scale",)
)
def products_explained(view: View, irreps: Sequence[str] | None = None) -> Value:
    """Share of the variance of the neurons over the table in the matrix elements, of a b, of the key
    representations."""
    return _neurons_along(view, key_irreps(view, irreps), group_of(view).product)


def _neurons_along(view: View, irreps: list[int], at: Int[Tensor, "rows"]) -> float:
    neurons = view.neurons[group_of(view).rows]
    centred = neurons - neurons.mean(0)
    total = float(centred.square().sum())
    return float(_coefficients(view, irreps, at, centred).square().sum()) / total if total > 0 else 0.0


def _coefficients(
    view: View, irreps: list[int], at: Int[Tensor, "rows"], x: Float64[Tensor, "rows width"]
) -> Float64[Tensor, "function width"]:
    """Of x on the matrix elements at some place of each row, where every element stands equally often."""
    order = len(group_of(view).members)
    by_element = torch.zeros(order, x.shape[1], dtype=torch.float64).index_add_(0, at, x)
    return _functions(view, irreps) @ by_element * (order / len(at)) ** 0.5


Edit = Callable[[View, list[int]], Float64[Tensor, "rows answers"]]


def edited(name: str, ref: str) -> Callable[[Edit], Edit]:
    """Registers the loss and the accuracy of edited logits: those that the function gives, and that its
    docstring says, beginning in the middle of a sentence."""

    def register(edit: Edit) -> Edit:
        def judged(
            what: Literal["loss", "correct"], view: View, irreps: Sequence[str] | None = None
        ) -> Value:
            rows = group_of(view).rows
            return per_part(view, getattr(view, what)(edit(view, key_irreps(view, irreps)), rows), rows)

        default = "`irreps` defaults to those of `key_irreps`; `key_irreps.share` says how many they are."
        loss_and_accuracy(name, f"{inspect.getdoc(edit)}\n\n{default}", judged, ref=ref)
        return edit

    return register


_PAPER = "Chughtai et al. 2023, section 4 and table 1, with a projection of full rank"


@edited("restricted.hidden_irreps", ref=_PAPER)
def restricted_hidden(view: View, irreps: list[int]) -> Float64[Tensor, "rows answers"]:
    """when of the neurons only the matrix elements, of a b, of the key representations are kept, and alone
    make the logits."""
    group = group_of(view)
    functions = _functions(view, irreps)
    inside = functions.T @ _coefficients(view, irreps, group.product, view.neurons[group.rows])
    hidden = inside[group.product] * (len(group.members) / len(group.rows)) ** 0.5
    return hidden @ direct_readout(view)


@edited("excluded.hidden_irreps", ref=_PAPER)
def excluded_hidden(view: View, irreps: list[int]) -> Float64[Tensor, "rows answers"]:
    """when the neurons lose the matrix elements, of a b, of the key representations, and alone make the
    logits."""
    return view.neurons[group_of(view).rows] @ direct_readout(view) - restricted_hidden(view, irreps)


@edited("restricted.logit_irreps", ref="Chughtai et al. 2023, section 4")
def restricted_logits(view: View, irreps: list[int]) -> Float64[Tensor, "rows answers"]:
    """when the logits are the sum of the characters of the key representations, each as large as it is in the
    network's logits."""
    return _as_characters(view, _centred(view), irreps)


@edited(
    "restricted.memoriser_irreps",
    ref="here: the control of `restricted_loss.logit_irreps` and `restricted_accuracy.logit_irreps`",
)
def restricted_memoriser(view: View, irreps: list[int]) -> Float64[Tensor, "rows answers"]:
    """as `logit_irreps`, of a network that knows the training examples by heart and nothing else: as good as
    that, it shows nothing."""
    by_heart = _by_heart(view)
    size = by_heart.norm()
    return _as_characters(view, by_heart * (_centred(view).norm() / size if size > 0 else 0.0), irreps)


def _as_characters(
    view: View, centred: Float64[Tensor, "rows order"], irreps: list[int]
) -> Float64[Tensor, "rows answers"]:
    group, cosines = group_of(view), _cosines(view, centred)
    size = centred.norm() / len(centred) ** 0.5
    shape = sum(cosines[i] * group.irreps[i].character / group.irreps[i].character.norm() for i in irreps)
    # Elements that the characters cannot tell apart get the very same logit: rounding must not choose.
    shape = torch.round(shape, decimals=12)
    logits = torch.zeros(len(group.rows), view.task.n_answers, dtype=torch.float64)
    logits[:, group.members] = (size * shape)[group.left[group.product]]
    return logits
