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

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ...errors import NotApplicable, UsageError, nearest
from ...fourier import directions, n_frequencies
from ...tasks import Operation
from ...tasks.table import group_identity
from ...view import View
from ..base import Value, array, once_per_view, per_part
from ..neurons import direct_readout
from ..waves.circular import circular, measure

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


@once_per_view
def group_of(view: View) -> Group:
    """The group that the task is the product of.

    Raises:
        NotApplicable: its table is that of no group.
    """
    if Operation.of(view.task).circle is not None:
        z = circular(view)
        if not z.circle.is_sum:
            raise NotApplicable(f"{view.task.symbol} is the product of no group")
        i, j = z.operands_at.unbind(1)
        x = torch.arange(z.m)
        return Group(z.on_circle, i, j, z.answer_at, z.circle.c, (x[:, None] - x) % z.m, _of_cycle(z.m))
    table = Operation.of(view.task).table
    identity = group_identity(table)
    if identity is None:
        raise NotApplicable(f"{view.task.symbol} is the product of no group")
    inverse = (table == identity).long().argmax(1)
    a, b = Operation.of(view.task).pairs.unbind(1)
    everything = torch.arange(Operation.of(view.task).p)
    return Group(
        torch.arange(view.task.n_inputs),
        a,
        b,
        view.targets,
        everything,
        table[:, inverse],
        irreps_of(table),
    )


def _of_cycle(m: int) -> list[Irrep]:
    waves = [directions(m, k) for k in range(1, n_frequencies(m) + 1)]
    return [Irrep(str(k), wave, wave[0]) for k, wave in enumerate(waves, 1)]


def irreps_of(table: Int[Tensor, "order order"]) -> list[Irrep]:
    """The non-trivial irreducible real representations of a group, by dimension, from its table.

    The sum over a conjugacy class commutes with everything, so on each span of matrix elements it is one
    number. A sum with random weights (the same for a class and its inverses, which makes it symmetric) tells
    them all apart.
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
    spans: list[tuple[int, Tensor, Tensor]] = []
    edges = [
        0,
        *(values.diff() > 1e-10 * float(values.abs().max())).nonzero().flatten().add(1).tolist(),
        order,
    ]
    for start, end in itertools.pairwise(edges):
        functions = vectors[:, start:end].T.contiguous()
        # The kernel of the projection on the span is a multiple of the character of x⁻¹ y; here at y = 1.
        spans.append((end - start, functions.T @ functions[:, identity], functions))
    spans = [
        item for item in spans if float((item[1] - item[1][0]).abs().max()) > 1e-9
    ]  # the trivial one is constant
    spans.sort(key=lambda item: (item[0], [-round(float(x), 6) for x in item[1]]))
    sizes = [_dimension(n) for n, *_ in spans]
    seen: dict[str, int] = {}
    irreps = []
    for size, (_, character, functions) in zip(sizes, spans, strict=True):
        seen[size] = seen.get(size, -1) + 1
        letter = f" #{seen[size] + 1}" if sizes.count(size) > 1 else ""
        irreps.append(Irrep(size + letter, functions, character))
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
    """The numbers of the representations that the logits are made of: of all examples, and of those that were
    not trained on."""
    group = group_of(view)
    chance = (len(group.rows) * len(group.members)) ** -0.5
    marks = irrep_cosines(view) > max(KEY_COSINE, 2 * chance)
    if "test" in view.parts and int((unseen := view.rows("test")[group.rows]).sum()) > 1:
        logits, at = _centred(view)[unseen], group.left[group.product[unseen]]
        for i in marks.nonzero().flatten().tolist():
            products = (group.irreps[i].character[at] * logits).sum(1)
            marks[i] = products.mean() > UNSEEN * products.std() / len(products) ** 0.5
    return marks.nonzero().flatten().tolist()


def _counted(view: View, irreps: list[int]) -> str:
    group = group_of(view)
    size, order = sum(len(group.irreps[i].functions) for i in irreps), len(group.members)
    return f"{len(irreps)} of {len(group.irreps)} representations, {size} of {order} dimensions"


def key_irreps(view: View, irreps: Sequence[str] | None = None) -> list[int]:
    """The numbers of the representations of those names, or of those that the logits are made of.

    Raises:
        UsageError: the group has no such representation.
        NotApplicable: none were named, or the logits are made of none, or of more than half of five or more.
    """
    if irreps is not None:
        named = [_numbered(view, str(name)) for name in ([irreps] if isinstance(irreps, str) else irreps)]
        if not named:
            raise NotApplicable("no representations were asked for")
        return sorted(set(named))
    if not (of_logits := found_irreps(view)):
        raise NotApplicable("the logits are made of no representation")
    if len(group_of(view).irreps) >= _FEW and 2 * len(of_logits) > len(group_of(view).irreps):
        raise NotApplicable(
            f"{_counted(view, of_logits)}, are keys: with so many left in a projection tells nothing; "
            "irreps= asks for some"
        )
    return of_logits


def _numbered(view: View, name: str) -> int:
    names = [irrep.name for irrep in group_of(view).irreps]
    if name not in names:
        raise UsageError(f"irreps: {view.task.symbol} has no representation {name!r}{nearest(name, names)}")
    return names.index(name)


@measure(
    "irrep_cosine", unit="1", ref="Chughtai et al. 2023 (arXiv 2302.03025), section 4 (logit similarity)"
)
def irrep_cosine(view: View) -> Value:
    """For each irreducible representation ρ, cosine of the logits (centred over c) with its character, tr
    ρ(a) ρ(b) ρ(c)⁻¹."""
    return array(irrep_cosines(view), "irrep", irrep=[irrep.name for irrep in group_of(view).irreps])


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
    return array(mask, "irrep", irrep=[irrep.name for irrep in group.irreps])


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
    group, keys = group_of(view), found_irreps(view)
    dimensions = sum(len(group.irreps[i].functions) for i in keys)
    shares = [len(keys) / len(group.irreps), dimensions / len(group.members)]
    return array(torch.tensor(shares, dtype=torch.float64), "of", of=["representations", "dimensions"])


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
    w, members = view.weights, _members_as_operand(view)
    if "embed.W_E" in w:
        tables = {"a, b": view.W_E}
    else:
        halves = dict(zip("ab", w["blocks.0.mlp.W_in"].chunk(2), strict=True))
        tables = {
            word: (w[f"embed_{word}.W_E"] @ half if "embed_a.W_E" in w else half).cpu()
            for word, half in halves.items()
        }
        tables = {word: table[Operation.of(view.task).element_tokens] for word, table in tables.items()}
    # An operand that stands at its inverse, as the b of a − b, changes no share: x⁻¹ has the matrix elements
    # of x, turned.
    shares = [_explained(view, key_irreps(view, irreps), table[members]) for table in tables.values()]
    return array(torch.tensor(shares, dtype=torch.float64), "operand", operand=list(tables))


def _members_as_operand(view: View) -> Int[Tensor, "order"]:
    order = len(group_of(view).members)
    circle = Operation.of(view.task).circle
    return torch.arange(order) if circle is None else circle.a


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
    functions = torch.cat([group_of(view).irreps[i].functions for i in irreps])
    return float((functions @ matrix).square().sum()) / total if total > 0 else 0.0


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
    """Of x on the matrix elements at the elements that each row has at some place. Every element stands there
    equally often."""
    group = group_of(view)
    order = len(group.members)
    by_element = torch.zeros(order, x.shape[1], dtype=torch.float64).index_add_(0, at, x)
    functions = torch.cat([group.irreps[i].functions for i in irreps])
    return functions @ by_element * (order / len(at)) ** 0.5


def _hidden(view: View, irreps: list[int]) -> Float64[Tensor, "rows d_mlp"]:
    """The part of the neurons in the matrix elements of a b."""
    group = group_of(view)
    functions = torch.cat([group.irreps[i].functions for i in irreps])
    inside = functions.T @ _coefficients(view, irreps, group.product, view.neurons[group.rows])
    return inside[group.product] * (len(group.members) / len(group.rows)) ** 0.5


def _restricted_hidden(view: View, irreps: list[int]) -> Float64[Tensor, "rows answers"]:
    return _hidden(view, irreps) @ direct_readout(view)


def _excluded_hidden(view: View, irreps: list[int]) -> Float64[Tensor, "rows answers"]:
    return view.neurons[group_of(view).rows] @ direct_readout(view) - _restricted_hidden(view, irreps)


def _restricted_logits(view: View, irreps: list[int]) -> Float64[Tensor, "rows answers"]:
    return _as_characters(view, _centred(view), irreps)


def _restricted_memoriser(view: View, irreps: list[int]) -> Float64[Tensor, "rows answers"]:
    group = group_of(view)
    by_heart = torch.nn.functional.one_hot(group.product, len(group.members)).double()
    by_heart = by_heart - by_heart.mean(1, keepdim=True)
    if "train" in view.parts:
        by_heart = by_heart * view.rows("train")[group.rows][:, None]
    size = by_heart.norm()
    return _as_characters(view, by_heart * (_centred(view).norm() / size if size > 0 else 0.0), irreps)


def _as_characters(
    view: View, centred: Float64[Tensor, "rows order"], irreps: list[int]
) -> Float64[Tensor, "rows answers"]:
    group, cosines = group_of(view), _cosines(view, centred)
    size = centred.norm() / len(centred) ** 0.5
    shape = sum(cosines[i] * group.irreps[i].character / group.irreps[i].character.norm() for i in irreps)
    # Elements that the characters cannot tell apart get the very same logit: rounding must not choose among
    # them.
    shape = torch.round(shape, decimals=12)
    logits = torch.zeros(len(group.rows), view.task.n_answers, dtype=torch.float64)
    logits[:, group.members] = (size * shape)[group.left[group.product]]
    return logits


Edit = Callable[[View, list[int]], Tensor]


def _register(name: str, edit: Edit, words: str, ref: str) -> None:
    """The loss and the accuracy of edited logits, as two measures."""
    kind, _, variant = name.partition(".")

    def loss(view: View, irreps: Sequence[str] | None = None) -> Value:
        rows = group_of(view).rows
        return per_part(view, view.loss(edit(view, key_irreps(view, irreps)), rows), rows)

    def accuracy(view: View, irreps: Sequence[str] | None = None) -> Value:
        rows = group_of(view).rows
        return per_part(view, view.correct(edit(view, key_irreps(view, irreps)), rows), rows)

    for what, unit, function in (("Loss", "nats", loss), ("Accuracy", "1", accuracy)):
        function.__doc__ = (
            f"{what} {words}\n\n`irreps` defaults to those of `key_irreps`; `key_irreps.share` says how "
            "many they are."
        )
        measure(f"{kind}_{what.lower()}.{variant}", unit=unit, ref=ref)(function)


_PAPER = "Chughtai et al. 2023, section 4 and table 1, with a projection of full rank"
_register(
    "restricted.hidden_irreps",
    _restricted_hidden,
    "when of the neurons only the matrix elements, of a b, of the key representations are kept, and alone "
    "make the logits.",
    _PAPER,
)
_register(
    "excluded.hidden_irreps",
    _excluded_hidden,
    "when the neurons lose the matrix elements, of a b, of the key representations, and alone make the "
    "logits.",
    _PAPER,
)
_register(
    "restricted.logit_irreps",
    _restricted_logits,
    "when the logits are the sum of the characters of the key representations, each as large as it is in "
    "the network's logits.",
    "Chughtai et al. 2023, section 4",
)
_register(
    "restricted.memoriser_irreps",
    _restricted_memoriser,
    "as `logit_irreps`, of a network that knows the training examples by heart and nothing else: as good as "
    "that, it shows nothing.",
    "here: the control of `restricted_loss.logit_irreps` and `restricted_accuracy.logit_irreps`",
)
