"""How a file can be read, tried out: what neither it nor its settings say is chosen by what its network then
does.

Assumed of a file are the task, the number of elements, the tokens of the signs, the order of the operands,
the activation, the normalisation, the direction and the kind of attention, and the order of heads in a fused
matrix. Every combination is tried on a sample of the pairs, by the share that is right. That decides most of
it, and not all: a GELU network read as a ReLU network can be right on every pair. What is left is decided by

    the file's own losses     where it has them, and the training set is known (evidence.py)
    its rest                  a network that was trained to an end has nothing left to gain on its training
                              set but larger logits, so the gradient of its training loss points along its
                              weights (Lyu & Li 2020, arXiv 1906.05890: it does in the limit; with weight
                              decay it does where training rests). The cosine between the two is close to 0
                              under another activation: the gradient then has much else to mend.

Where neither tells readings apart, the usual one is kept, and that is said.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from ..errors import NotBelieved, UsageError
from ..models import DEFAULT_KIND, KINDS, POST_NORM, NetworkConfig, Weights, blocks_of, is_bias
from ..tasks import TASKS, Operation, Task, groups, make_task, task_parameters
from ..training import cross_entropy
from ..training.examples import one_thread
from .convert import NOTHING, POSITIONS, Converted, DoesNotFit, completed, convert, found, positions_of
from .mapping import Layout, Lookup, beginning
from .numbering import Numbering, find_numbering, in_words, may_be_a_group, of_two_tasks
from .recognition import Recognised

_WELL = 0.9
"""A network that is right on fewer pairs gets a word of doubt, and more ways to read it are tried."""
_CLEARLY = 0.1
"""A task is the network's when it is right on so many more of the pairs than any other task."""
_CHUNK = 1024
_SAMPLE = 2048
"""Pairs on which readings are tried out."""
_LESS_AT_REST = 1 / 1.75
"""A reading whose rest is lower than that of another by this factor is the worse one. In 318 small networks
(p from 7 to 31; relu, gelu and silu; 300 to 2,500 steps), as far as some reading had a rest of .3, a wrong
activation had up to 1.63 times the rest of the right one."""
_AT_REST = 0.3
"""Where no reading has so much rest, as in the middle of training or in weights made by hand, it tells
nothing: there a wrong activation had many times the rest of the right one."""
_SURER = 2 / 3
"""What the loss of a reading is of that of another at most, where it is the better one. Of 33 small encoders
that were trained (p of 7 to 13; relu, gelu and silu; pre-norm and post-norm; 100 to 800 steps) a wrong
activation was clearly surer than the right one in none; of the 17 post-norm ones the right one was surer than
some wrong one in 10."""
_MORE = 0.03
"""A network is at chance that is right on no more of the pairs than this above what one answer to all would
be: logits of an untrained one follow its operands a little, and with p = 199 one such was right on .008 more
for one of fifteen tasks."""
_SURELY = 1.01
"""Tokens with which the median loss is larger by less are not told apart."""
_BY_CHANCE = 1e-6
"""A share of right answers is no chance where the best of all readings tried would reach it so rarely."""
_SPARE, _FEW_SPARE = 64, 8
"""Most tokens that may be left over, and so many are tried whatever the size of the vocabulary."""
_MOST_READINGS = 1_000_000
"""More readings with spare tokens than are ever tried."""
_OWN = (
    "In Python its operation can be made a task (@gi.task, docs/how-to.md), and is then tried; or import it "
    "as it stands, with --task and --believe"
)
"""What to do with a network whose operation is known and is no task here."""
_LINES = 3
"""Rows, and columns, of the answers that are looked at before all are."""
_MOST_CELLS = 3_000_000
"""Cells of the tables that are made to try numbers of elements."""


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to read the weights.

    Attributes:
        assumed: the keys that were open, with the values that they have here.
        layout: the mapping that says so.
        converted: what the last state dict then is.
    """

    assumed: Mapping[str, str | float]
    layout: Layout
    converted: Converted

    def __str__(self) -> str:
        return ", ".join(f"{key} = {value}" for key, value in self.assumed.items())

    def differs_from(self, other: Variant) -> str:
        """What is assumed here and not there."""
        differ = {key: value for key, value in self.assumed.items() if other.assumed.get(key) != value}
        return ", ".join(f"{key} = {value}" for key, value in differ.items())


@dataclass(frozen=True, eq=False)
class Found:
    """The reading of a file that is believed.

    Attributes:
        task: the task.
        section: its section of a configuration.
        variant: how the weights are read.
        equals: ways to read them that do this task as well, the usual one first where it is among them.
        n_ways: how many ways were tried.
        unlike: the largest share of right answers under any of the others; None where there is none.
        above_chance: whether more is right than in the best of as many readings by chance.
        share: how much is right of all pairs, or of what may be its training set where the file names one.
        of_rows: whether it is of that.
        next_best: the next best task and its share of the same, if any.
        same_tokens: other tokens with which the network is just as sure.
        tried: what was tried, in words.
        numbering: which element each number of the file is, where that is not the documented order. The
            weights in `variant` and in `equals` have the documented one.
    """

    task: Task
    section: dict[str, Any]
    variant: Variant
    equals: list[Variant]
    n_ways: int
    unlike: float | None
    above_chance: bool
    share: float
    of_rows: bool
    next_best: list[tuple[float, str]]
    same_tokens: list[str]
    tried: str
    numbering: Numbering | None = None

    @property
    def model(self) -> NetworkConfig:
        """The network's configuration, for this task."""
        return for_task(self.variant.converted.model, self.task)

    def of_the_task(self, share: float, of_training: float | None) -> Iterator[str]:
        """Sentences on the task and its tokens, where that share is right of all pairs, and of the training
        set as it was read."""
        text = f"task: {self.task.symbol}, tokens {self.section['layout']!r}: "
        text += f"right on {share:.4f} of all pairs"
        is_best = of_training is None or round(of_training, 4) == round(self.share, 4)
        if of_training is not None:
            text += f" and on {of_training:.4f} of its training set by the rows in the file"
        if self.of_rows and (of_training is None or not is_best):
            text += f"; on {self.share:.4f} of the best of the sets that its rows may mean"
        of = " of the best of the sets that its rows may mean" if self.of_rows else ""
        text += "".join(f"; the next best, {symbol}, on {other:.4f}{of}" for other, symbol in self.next_best)
        if max(share, self.share) < _WELL:
            text += ". That is little for a trained network: if its author reports more, "
            text += "the tokens, the layout or the task are not these"
        yield text
        if self.numbering is not None:
            task = Operation.of(self.task)
            yield from self.numbering.sentences(task.answer_names, task.symbol)
        yield f"tried were {self.tried}"
        yield from self._of_positions()
        yield from self._reservations()

    def _of_positions(self) -> Iterator[str]:
        """That positions are not read, where the network has more than an example."""
        rows, n_ctx = positions_of(self.variant.converted.weights), self.task.reads.n_ctx
        if rows > n_ctx:
            which = f"row {n_ctx} is" if rows == n_ctx + 1 else f"rows {n_ctx} to {rows - 1} are"
            yield f"{POSITIONS}: of {rows} rows the first {n_ctx} are read; {which} left out"

    def _reservations(self) -> Iterator[str]:
        """Sentences on what is not told apart, and on what nothing but `believe` speaks for."""
        if self.same_tokens:
            which = " or ".join(map(repr, self.same_tokens[:4]))
            yield f"tokens that cannot be told apart from these: {which}"
        if not self.above_chance:
            what = "it is right on NO MORE than by chance, under every reading tried"
            yield f"{what}; it was imported as asked for, by --believe"

    def of_the_weights(self, verdict: LikeliestWay) -> Iterator[str]:
        """Sentences on how the weights are read: what was chosen over what, and what is not told from it."""
        if self.n_ways == 1:
            return
        text = f"of the network: {self.variant}; {self.n_ways} ways to read it were tried"
        if self.unlike is not None:
            worse = f"{self.n_ways - len(self.equals)} of them are worse"
            text += f", and {worse}: right on {self.unlike:.4f} at most"
        yield text
        if verdict.why:
            yield f"of the {len(self.equals)} left this one was taken: {verdict.why}"
        if verdict.alike:
            which = " or ".join(way.differs_from(verdict.chosen) for way in verdict.alike[:4])
            more = f" or {len(verdict.alike) - 4} more" if len(verdict.alike) > 4 else ""
            remedy = "losses in the file, or --config-file, would decide"
            yield f"it CANNOT be told apart here from {which}{more}: {remedy}"


def for_task(model: NetworkConfig, task: Task) -> NetworkConfig:
    """The configuration, with the number of logits said only where it is not that of the answers."""
    return model.model_copy(update={"d_vocab_out": None}) if model.d_vocab_out == task.n_answers else model


def variants(known: Recognised, content: Any) -> list[Variant]:
    """Every way to read the weights that file, settings and mapping do not rule out; the usual one first."""
    turned = _heads_turned(known.layout)
    shapes = {name: weight.shape for name, weight in known.last.weights.items()}
    heads: dict[str, Layout] = {"one after the other": known.layout}
    if turned is not None and any(block.n_heads > 1 for block in blocks_of(shapes)):
        heads["interleaved"] = turned
    norms = ["pre", "post"] if _may_be_post_norm(known) else [""]
    several = []
    for (order, layout), norm in itertools.product(heads.items(), norms):
        read = layout.model_copy(update={"kind": POST_NORM}) if norm == "post" else layout
        try:
            converted = convert(read, known.snapshots.last.state, content, known.settings)
        except DoesNotFit:  # what its mapping says, an encoder cannot be
            if norm != "post":
                raise
            continue
        usual = converted.model
        open_keys = {
            key: [getattr(usual, key), *(value for value in values if value != getattr(usual, key))]
            for key, values in usual.unseen().items()
            if not _is_told(known.layout, key, content, known.settings)
        }
        of_reading = ({"norm": norm} if norm else {}) | ({"heads": order} if len(heads) > 1 else {})
        for values in itertools.product(*open_keys.values()):
            assumed = dict(zip(open_keys, values, strict=True))
            model = usual.model_copy(update=assumed)
            as_read = read.model_copy(update={"model": {**read.model, **assumed}})
            several.append(
                Variant(assumed | of_reading, as_read, dataclasses.replace(converted, model=model))
            )
    return several


def _may_be_post_norm(known: Recognised) -> bool:
    """Whether the normalisations of each layer, which have weights, may stand behind its parts and not before
    them: no shape shows it. A layout says so with its `kind`."""
    is_open = "kind" not in known.layout.model_fields_set
    post_norm = KINDS[POST_NORM].axes.keys()
    can_be = {re.sub(r"\d+", "{layer}", name, count=1) for name in known.last.weights} <= post_norm
    has_both = all(f"blocks.0.{norm}.w" in known.last.weights for norm in ("ln1", "ln2"))
    return is_open and known.layout.kind == DEFAULT_KIND and has_both and can_be


def _is_told(layout: Layout, key: str, content: Any, settings: Any) -> bool:
    """Whether the file, its settings or its mapping say what a key of [model] is."""
    item = layout.model.get(key)
    return found(content, settings, item.at) is not NOTHING if isinstance(item, Lookup) else item is not None


def _heads_turned(layout: Layout) -> Layout | None:
    """The layout with heads interleaved where one dimension holds one after the other; None without such."""
    turned = {
        name: source.model_copy(update={"axes": re.sub(r"\bhead d_head\b", "d_head head", source.axes)})
        for name, source in layout.weights.items()
        if re.search(r"\([^)]*\bhead d_head\b[^)]*\)", source.axes)
    }
    return layout.model_copy(update={"weights": {**layout.weights, **turned}}) if turned else None


# What a network does


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What a network does with every example of a task, in the order of its sample; its logits are not kept.
    With an axis for the answers where there are several.

    Attributes:
        losses: the cross-entropy of each answer; 0 where none is asked.
        squares: its squared error, as a mean over the classes.
        answers: the class with the largest logit.
        right: whether that is the right one.
        asked: whether an answer is asked.
    """

    losses: Float64[Tensor, "n *answer"]
    squares: Float64[Tensor, "n *answer"]
    answers: Int[Tensor, "n *answer"]
    right: Bool[Tensor, "n *answer"]
    asked: Bool[Tensor, "n *answer"]

    @property
    def loss(self) -> float:
        """The mean loss over all answers that are asked."""
        return float(self.losses[self.asked].mean())

    @property
    def share(self) -> float:
        """The share of examples of which every answer is right."""
        return float((self.right | ~self.asked).reshape(len(self.right), -1).all(1).double().mean())


def behaviour(
    model: NetworkConfig, task: Task, weights: Weights, rows: Int[Tensor, "n"] | None = None
) -> Behaviour:
    """What the network does with all examples, or with some; biases that are missing are 0.

    Never holds more logits than those of a thousand examples.
    """
    doubled = _doubled(model, task, weights)
    inputs, answers = model.read(task.inputs, task.reads), task.targets
    if rows is not None:
        inputs, answers = inputs[rows], answers[rows]
    parts: list[tuple[Tensor, ...]] = []
    # These are many small operations, on which several threads wait for each other: ten times slower on a
    # busy machine.
    with torch.no_grad(), one_thread():
        for tokens, targets in zip(inputs.split(_CHUNK), answers.split(_CHUNK), strict=True):
            logits = model.logits(doubled, tokens, task.reads).flatten(0, -2)
            asked, at = targets.flatten() >= 0, targets.flatten().clamp(min=0)
            squares = (logits.square().sum(1) + 1 - 2 * logits.gather(1, at[:, None])[:, 0]) / logits.shape[1]
            of_each = (cross_entropy(logits, at) * asked, squares * asked, logits.argmax(1))
            parts.append(tuple(one.reshape(targets.shape) for one in of_each))
    losses, squares, said = map(torch.cat, zip(*parts, strict=True))
    return Behaviour(losses, squares, said, said == answers, answers >= 0)


def _doubled(model: NetworkConfig, task: Task, weights: Weights) -> Weights:
    return {name: weight.double() for name, weight in completed(weights, model.shapes(task.reads)).items()}


@dataclass(frozen=True, eq=False)
class Judged:
    """What speaks for one way to read the weights.

    Attributes:
        rest: how much the gradient of the loss points along the weights: the cosine between what lowers the
            loss fastest and the weights, biases left out. Over the training set; where that is not known,
            over the half of a sample that the network knows best.
        right: which of those examples it gets right, with the other half.
        losses: the loss of each.
        losses_tell: whether that tells readings apart: of a network whose stream is not normalised before it
            is unembedded, a wrong activation may only make the logits larger.
    """

    rest: float
    right: Bool[Tensor, "n"]
    losses: Float64[Tensor, "n"]
    losses_tell: bool

    def clearly_more_right(self, other: Judged) -> bool:
        """Whether more is right than under another reading, of the examples on which they differ, by 3
        standard deviations (McNemar)."""
        only, only_other = int((self.right & ~other.right).sum()), int((other.right & ~self.right).sum())
        return only - only_other > 3 * math.sqrt(only + only_other)

    def is_clearly_better(self, other: Judged) -> bool:
        """Whether it gets clearly more right than another reading, or is clearly surer of it."""
        return self.clearly_more_right(other) or self.clearly_surer(other)

    def clearly_surer(self, other: Judged) -> bool:
        """Whether it gets no less right than another reading, and of what is right under either the mean loss
        is at most two thirds, and most losses are lower, by 3 standard deviations (sign test)."""
        either = self.right | other.right
        mine, theirs = self.losses[either], other.losses[either]
        if not self.losses_tell or int(self.right.sum()) < int(other.right.sum()) or not len(mine):
            return False
        more = int((mine < theirs).sum()) - int((mine > theirs).sum())
        return float(mine.mean()) <= _SURER * float(theirs.mean()) and more > 3 * math.sqrt(len(mine))


def judged(model: NetworkConfig, task: Task, weights: Weights, rows: Int[Tensor, "n"] | None) -> Judged:
    """What speaks for reading weights so, on a sample of the training rows; of all, if not known."""
    doubled = _doubled(model, task, weights)
    leaves = {name: weight.clone().requires_grad_(True) for name, weight in doubled.items()}
    most = _SAMPLE // 2 // len(task.reads.answers)
    drawn = sample(task.n_representative, most) if rows is None else rows[:most]
    targets = task.targets[drawn].flatten()
    with one_thread():
        logits = model.logits(leaves, model.read(task.inputs[drawn], task.reads), task.reads).flatten(0, -2)
        logits, targets = logits[targets >= 0], targets[targets >= 0]
        losses = cross_entropy(logits, targets)
        best = losses if rows is not None else losses[losses <= losses.detach().median()]
        matrices = [weight for name, weight in leaves.items() if not is_bias(name)]
        slopes = torch.autograd.grad(best.mean(), matrices, allow_unused=True)
    every = [(matrix.detach(), slope) for matrix, slope in zip(matrices, slopes, strict=True)]
    pairs = [(matrix, slope) for matrix, slope in every if slope is not None]
    along = -sum(float((matrix * slope).sum()) for matrix, slope in pairs)
    columns = zip(*pairs, strict=True)
    lengths = [math.sqrt(sum(float(x.square().sum()) for x in column)) for column in columns]
    rest, right = along / (math.prod(lengths) or 1), logits.argmax(1) == targets
    return Judged(rest, right, losses.detach(), model.is_normalised)


@dataclass(frozen=True, eq=False)
class LikeliestWay:
    """Which of several ways to read the weights is believed.

    Attributes:
        chosen: that one; the usual one, where no other is clearly better.
        why: a sentence, where there were several.
        alike: those that cannot be told from it.
    """

    chosen: Variant
    why: str = ""
    alike: tuple[Variant, ...] = ()


def most_at_rest(found: Found, rows: Int[Tensor, "n"] | None) -> LikeliestWay:
    """Of the readings that do the task equally well the one whose training had most come to rest; where none
    had, the one that is clearly right more often, or clearly surer, than the usual one."""
    if len(found.equals) == 1:
        return LikeliestWay(found.equals[0])
    usual = found.equals[0]
    where = "on its training set" if rows is not None else "on the pairs that it knows best"
    of = {
        way: judged(for_task(way.converted.model, found.task), found.task, way.converted.weights, rows)
        for way in found.equals
    }
    if max(one.rest for one in of.values()) >= _AT_REST:
        best = max(of, key=lambda way: of[way].rest)
        chosen = usual if of[usual].rest >= _LESS_AT_REST * of[best].rest else best
        if chosen is usual and of[best].clearly_more_right(of[usual]):
            chosen = best
        alike = [way for way in of if way is not chosen and of[way].rest >= _LESS_AT_REST * of[chosen].rest]
        after = max((way for way in of if way is not chosen), key=lambda way: of[way].rest)
        why = "its training had most come to rest in this one"
        if chosen is not best:
            why = "it is the usual one, and its training had not clearly more come to rest in another"
        why += f": the gradient of its loss {where} lies along its weights by {of[chosen].rest:.3f} (cosine)"
        why += f", with {after.differs_from(chosen)} by {of[after].rest:.3f}"
    else:
        best = max(of, key=lambda way: int(of[way].right.sum()))
        surest = min(of, key=lambda way: float(of[way].losses.mean()))
        better = [way for way in of if of[way].is_clearly_better(of[usual])]
        # Of those that are not told apart the more usual one, which stands first.
        best = surest if surest in better else best
        chosen = next((way for way in better if not of[best].is_clearly_better(of[way])), usual)
        alike = [way for way in of if way is not chosen and not of[chosen].is_clearly_better(of[way])]
        after = max((way for way in of if way is not chosen), key=lambda way: int(of[way].right.sum()))
        (share, loss), (other_share, other_loss) = (
            (float(of[way].right.double().mean()), float(of[way].losses.mean())) for way in (chosen, after)
        )
        why = f"it is right on {share:.4f} of a sample, with a loss of {loss:.3g}"
        why += f", with {after.differs_from(chosen)} on {other_share:.4f}, with {other_loss:.3g}"
    return LikeliestWay(chosen, why, tuple(alike))


def sample(n: int, most: int = _SAMPLE) -> Int[Tensor, "few"]:
    """At most so many of n examples, always the same ones."""
    if n <= most:
        return torch.arange(n)
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:most]


# Trying


@dataclass(frozen=True, eq=False)
class _Known:
    """A task without its tokens; its table is by first and second operand in a network's order, and under the
    numbers that its elements have in the file."""

    section: dict[str, Any]
    symbol: str
    table: Int[Tensor, "p p"]
    swapped: bool
    numbering: Numbering | None = None

    @property
    def freedom(self) -> float:
        """In nats, how many tables it was chosen from."""
        return 0.0 if self.numbering is None else self.numbering.nats

    def of(self, way: Variant) -> Variant:
        """The weights with the documented numbers of the elements."""
        if self.numbering is None:
            return way
        converted = way.converted
        weights = self.numbering.renumbered(converted.weights, converted.model.kind)
        return dataclasses.replace(way, converted=dataclasses.replace(converted, weights=weights))

    @property
    def name(self) -> tuple[str, str]:
        """What tells it from the others."""
        return str(self.section["name"]), self.symbol

    def share(self, answers: Int[Tensor, "n"], cells: Int[Tensor, "n"]) -> float:
        """The share of right answers at some cells of the table, of those that have one."""
        right = self.table.flatten()[cells]
        return float((answers == right).sum()) / max(1, int((right >= 0).sum()))

    def constant(self, cells: Int[Tensor, "n"]) -> float:
        """The share of right answers of a network that always gives the most frequent one."""
        right = self.table.flatten()[cells]
        right = right[right >= 0]
        return float(right.bincount().max()) / len(right) if len(right) else 1.0

    def nats(self, share: float, cells: Int[Tensor, "n"]) -> float:
        """How unlikely it is that such a network is right so often: -log of a bound on the probability."""
        return int((self.table.flatten()[cells] >= 0).sum()) * _divergence(share, self.constant(cells))

    def written(self, text: str) -> dict[str, Any]:
        """The section [task] with tokens. A network that reads b first is one of the layout "b a ="."""
        if self.swapped:
            text = " ".join({"a": "b", "b": "a"}.get(word, word) for word in text.split())
        return {**self.section, "layout": text}


@dataclass(frozen=True, eq=False)
class _Try:
    """One reading, and the share of a sample of pairs that is then right."""

    share: float
    variant: Variant
    text: str
    known: _Known


@dataclass(frozen=True)
class Trials:
    """What readings of a file are tried on.

    Attributes:
        known: the file, under its layout.
        content: the file.
        wanted: keys of a section [task] that are not to be tried.
        rows: for a number of elements, the sets of cells a p + b that may be its training set; none where the
            file names none.
    """

    known: Recognised
    content: Any
    wanted: Mapping[str, Any]
    rows: Callable[[int], list[Int[Tensor, "_"]]]

    @property
    def is_open(self) -> bool:
        """Whether other tokens than those of the layout may be tried."""
        return "layout" not in self.wanted and self.known.last.model.reads_signs

    def cells(self, p: int, most: int | None = None) -> list[Int[Tensor, "_"]]:
        """The sets of cells in one of which it is right: the whole table, or possible training sets."""
        sets = self.rows(p) or [torch.arange(p * p)]
        return sets if most is None else [one[sample(len(one), most)] for one in sets]

    def tasks(self, p: int) -> list[_Known]:
        """The different tables of the tasks of p elements and p answers that agree with what is wanted."""
        several: list[_Known] = []
        for section in _sections(p, self.wanted):
            task = Operation.of(make_task(**section))
            table, turned = task.table, task.table.T.contiguous()
            if (task.p, task.n_answers) != (p, p) or any(torch.equal(table, one.table) for one in several):
                continue
            several.append(_Known(section, task.symbol, table, swapped=False))
            if self.is_open and not any(torch.equal(turned, one.table) for one in several):
                several.append(_Known(section, f"{task.symbol}, b first", turned, swapped=True))
        return several

    def answers(self, way: Variant, p: int, text: str, cells: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """What the network answers at some cells of the table of p elements."""
        carrier = make_task("modular_addition", p=p, layout=text)  # which has all pairs
        model = for_task(way.converted.model, carrier)
        weights, reads = _doubled(model, carrier, way.converted.weights), carrier.reads
        tokens = model.read(carrier.inputs, reads)
        with torch.no_grad(), one_thread():
            logits = (model.logits(weights, tokens[some], reads) for some in cells.split(_CHUNK))
            return torch.cat([one.argmax(1) for one in logits])

    def like_groups(self, ways: Sequence[Variant]) -> Iterator[tuple[str, Int[Tensor, "p p"]]]:
        """Tokens, and the answers to all pairs, in which hardly an answer is twice in a row or a column."""
        for (p, text), way in itertools.product(self.known.last.tokens, ways):
            if self.wanted.get("p", p) == p:
                grid = torch.arange(p * p).view(p, p)
                lines = torch.cat([grid[:_LINES], grid.T[:_LINES]])
                if may_be_a_group(self.answers(way, p, text, lines.flatten()).view(lines.shape)):
                    yield text, self.answers(way, p, text, grid.flatten()).view(p, p)

    def renumbered(self, ways: Sequence[Variant]) -> list[_Try]:
        """The task whose table the network's answers are under another numbering of the elements, under each
        way to read the weights; none where there is none."""
        best: tuple[float, _Known] | None = None
        shared = "embed.W_E" in self.known.last.weights
        for _, answers in self.like_groups(ways):
            p = len(answers)
            known = [one for one in self.tasks(p) if not one.swapped]
            found = find_numbering(answers, [one.table for one in known], shared)
            if found is None:
                continue
            which, numbering = found
            table = numbering.table(known[which].table)
            one = dataclasses.replace(known[which], table=table, numbering=numbering)
            share = max(one.share(answers.flatten()[some], some) for some in self.cells(p))
            best = (share, one) if best is None or share > best[0] else best
            if share >= _WELL:
                break
        if best is None:
            return []
        p, one = len(best[1].table), best[1]
        texts = [text for size, text in self.known.last.tokens if size == p]
        return [each for text in texts for each in self.on_tokens(ways, p, text, [one])]

    def shorter_examples(self) -> list[tuple[int, str]]:
        """Other numbers of elements and layouts of tokens than those of the full length."""
        last, layout = self.known.last, self.known.layout
        vocab, n_logits = len(last.weights["embed.W_E"]), last.model.d_vocab_out or 0
        rows = len(last.weights.get(POSITIONS, ()))
        every = layout.examples(vocab, rows, shorter=True)
        return [one for one in every if one[0] <= n_logits and one not in last.tokens]

    def on_examples(self, ways: Sequence[Variant], examples: Sequence[tuple[int, str]]) -> Iterator[_Try]:
        """Every task on examples of these numbers of elements, as far as the number is not another's."""
        for p, text in examples:
            if self.wanted.get("p", p) == p:
                yield from self.on_tokens(ways, p, text)

    def on_tokens(
        self, ways: Sequence[Variant], p: int, text: str, tasks: Sequence[_Known] | None = None
    ) -> Iterator[_Try]:
        """Every task, or some, under each way to read the weights."""
        sets, tasks = self.cells(p, _SAMPLE), self.tasks(p) if tasks is None else tasks
        for way in ways:
            answers = [self.answers(way, p, text, cells) for cells in sets]
            for known in tasks:
                yield _Try(max(map(known.share, answers, sets)), way, text, known)

    def with_spare_tokens(self, ways: Sequence[Variant]) -> tuple[int, list[_Try]]:
        """Every task of fewer elements than the vocabulary has tokens, some of which are never used, that is
        right more often than by chance, and how many were tried; signs may be any of the other tokens."""
        weights, n_logits = self.known.last.weights, self.known.last.model.d_vocab_out
        vocab, n_ctx = len(weights["embed.W_E"]), positions_of(weights)
        least = max(2, vocab // 3, vocab - min(_SPARE, max(_FEW_SPARE, _MOST_CELLS // vocab**2)))
        tried: list[tuple[Variant, str, tuple[int, ...], int, Tensor, Tensor]] = []
        layout = self.known.layout
        for text in layout.plain_tokens(n_ctx) or layout.shorter_plain_tokens(n_ctx):
            for signs in _signs(len(text.split()) - 2, least, vocab):
                most = min([vocab - 1, n_logits or vocab, *signs])
                cells = sample(most * most, _SAMPLE // 4)
                written = _written(text, signs, most, vocab)
                for way in ways:
                    answers = self.answers(way, most, written, cells)
                    tried.append((way, text, signs, most, cells, answers))
        count, better = 0, []
        for p in range(min(vocab - 1, n_logits or vocab), least - 1, -1):
            if self.wanted.get("p", p) != p:
                continue
            tasks = self.tasks(p)
            for way, text, signs, most, cells, answers in tried:
                a, b = cells // most, cells % most
                inside = (a < p) & (b < p)
                if p > most or not inside.any():
                    continue
                of_p = (a * p + b)[inside]
                count += len(tasks)
                for known in tasks:
                    share = known.share(answers[inside], of_p)
                    if share > _CLEARLY and known.nats(share, of_p) > math.log(_MOST_READINGS / _BY_CHANCE):
                        better.append(_Try(share, way, _written(text, signs, p, vocab), known))
        return count, better


def _sections(p: int, wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Sections [task] with p elements."""
    # Arithmetic first: composition in C_n is addition mod n, which is the better known name.
    names = sorted(TASKS, key=lambda name: "group" in task_parameters(name).model_fields)
    for name in [str(wanted["name"])] if "name" in wanted else names:
        keys = task_parameters(name).model_fields
        several: list[dict[str, Any]] = [{"p": p}] if "p" in keys else []
        if "group" in keys and not several:
            several = [{"group": group} for group in groups.of_order(p)]
        for parameters in several:
            if all(parameters.get(key, value) == value for key, value in wanted.items()):
                yield {"name": name, **parameters, **wanted}


def _signs(count: int, least: int, vocab: int) -> Iterator[tuple[int, ...]]:
    """Tokens of the signs, where the elements are the first of `least` or more tokens: any, or of two such as
    lie side by side or last."""
    if count == 0:
        yield ()
    elif count == 1:
        yield from ((token,) for token in range(least, vocab))
    elif count == 2:
        pairs = [(token, token + step) for step in (1, -1) for token in range(vocab - _FEW_SPARE, vocab)]
        pairs += [(token, vocab - 1) for token in range(vocab - _FEW_SPARE, vocab - 1)]
        yield from (pair for pair in dict.fromkeys(pairs) if all(least <= token < vocab for token in pair))


def _written(text: str, signs: tuple[int, ...], p: int, vocab: int) -> str:
    """The layout with its signs' tokens, unless they follow the elements, and the vocabulary's size."""
    numbers, words, free = iter(signs), [], p
    for word in text.split():
        if word in ("a", "b"):
            words.append(word)
            continue
        token = next(numbers)
        words.append(word if token == free else f"{word}@{token}")
        free = max(free, token + 1)
    return " ".join(words) + (f" of {vocab}" if free < vocab else "")


def find_task(trials: Trials, believe: bool = False) -> Found:
    """The reading under which the network is right on most pairs, of all tasks, or of those that
    `trials.wanted` leaves.

    Raises:
        NotBelieved: it is right on no more pairs than by chance; not where `believe` says that it is meant.
        UsageError: none is clearly the network's; or what is wanted does not go with the network.
    """
    ways = variants(trials.known, trials.content)
    tries = list(trials.on_examples(ways, trials.known.last.tokens))
    best = max(tries, key=lambda one: one.share, default=None)
    n_tried, as_written = len(tries), tries
    if best is None or best.share < _WELL or best.known.swapped:
        renumbered = trials.renumbered(ways)
        n_tried += len(renumbered)
        tries = _with_renumbered(tries, renumbered)
        best = max(tries, key=lambda one: one.share, default=None)
    unknown = "" if best is not None and best.share >= _WELL else _unknown_group(trials, ways)
    if trials.is_open and not unknown and best is not None and best.share < _WELL:
        # Positions behind those of an example may be there and not be read.
        shorter = list(trials.on_examples(ways, trials.shorter_examples()))
        n_tried += len(shorter)
        most = max((one.share for one in shorter), default=0)
        tries = [*shorter, *tries] if most > best.share + _CLEARLY else tries
        best, as_written = max(tries, key=lambda one: one.share), tries
    if trials.is_open and not unknown and (best is None or best.share < _WELL):
        # Not under all ways to read the weights: under the usual one, under the best and without another
        # activation.
        alike = [way for way in ways if way.assumed.get("act_fn") == ways[0].assumed.get("act_fn")]
        few = [way for way in alike if way.assumed.get("attention_mixing", 1.0) == 1.0][:3]
        if best is not None and best.variant not in few:
            few.append(best.variant)
        count, spare = trials.with_spare_tokens(few)
        n_tried += count
        better = max(spare, key=lambda one: one.share, default=None)
        if better is not None and (best is None or better.share > best.share + _CLEARLY):
            p, like = len(better.known.table), better.known.section
            as_good = [one for one in spare if one.share >= better.share - _CLEARLY]
            of_size = [one for one in as_good if len(one.known.table) == p]
            by_section = (
                [one for one in of_size if (one.known.section == like) == so] for so in (True, False)
            )
            several = [list(dict.fromkeys(one.text for one in some))[:_FEW_SPARE] for some in by_section]
            texts = dict.fromkeys(itertools.chain(*several))
            others = [one for text in texts for one in trials.on_tokens(ways, p, text)]
            tries = others + tries
    if not tries:
        sizes = " or ".join(f"{p} elements as {text!r}" for p, text in trials.known.last.tokens)
        if not sizes:
            weights = trials.known.last.weights
            n_ctx, vocab = positions_of(weights), len(weights["embed.W_E"])
            logits = weights["unembed.W_U"].shape[1]
            what = f"it takes {n_ctx} tokens of {vocab} kinds and gives {logits} logits"
            raise NotBelieved(
                f"the import is not believed: {what}, and under no number of elements from {logits} down is "
                f"it right on more than by chance. Tried were {n_tried:,} readings: say what it is with a "
                f"mapping{beginning(trials.known.name)} that gives its tokens"
            )
        asked = ", ".join(f"{key} = {value}" for key, value in trials.wanted.items())
        raise UsageError(f"the task asked for ({asked}) is none of a network that takes {sizes}")
    tried = _in_words(ways, tries, n_tried)
    ranked = _Ranked.of(trials, tries, n_tried)
    if ranked.by_sign:
        raise UsageError(_of_several_signs(ranked))
    if (does := _does(trials, ranked, unknown)) and not believe:
        chance = "" if ranked.above_chance else ", which is no more than by chance"
        what = f"the import is not believed: {ranked.shares}{chance}; {does}"
        raise NotBelieved(f"{what}. Tried were {tried}. {_OWN}")
    if not ranked.above_chance:
        if not believe:
            what = f"{ranked.shares}, which is no more than by chance. Tried were {tried}"
            raise NotBelieved(
                f"the import is not believed: {what}. A network that was not trained, or one of another task "
                "or architecture: if it is as it should be, import it with --task and --believe"
            )
        usual = [one for one in as_written if one.variant is ways[0] and not one.known.swapped] or tries
        ranked = _Ranked.of(trials, usual, n_tried)
    if (unusual := _taken_on_trust(trials, ranked, as_written)) and not believe:
        of = "the set that the file names" if trials.rows(len(ranked.best.known.table)) else "all pairs"
        only = f"only {ranked.share:.3f} of {of} is right ({ranked.shares})"
        remedy = "say it with --set task.p=N and --set task.layout='...', or import it as it stands"
        if ranked.best.known.numbering is not None:
            remedy = "import it as it stands"
        raise NotBelieved(
            f"the import is not believed: the best reading has {unusual}, and under it {only}. "
            f"Tried were {tried}. If it is so, {remedy} with --believe"
        )
    if not ranked.clear and not (believe and "name" in trials.wanted):
        what = f"no task is clearly this network's ({ranked.shares}{'; ' if does else ''}{does})"
        raise UsageError(f"{what}: say which with --task")
    return _with_its_tokens(trials, ranked, tries, tried)


def _with_renumbered(tries: list[_Try], renumbered: list[_Try]) -> list[_Try]:
    """Both, or the first where they say as much. A group's product with b first is its product under another
    numbering: that an author has a numbering of his own is the likelier of the two."""
    best, other = (max(some, key=lambda one: one.share, default=None) for some in (renumbered, tries))
    if best is None:
        return tries
    section = best.known.section
    same = [one for one in tries if one.known.swapped and one.known.section == section]
    rest = [one for one in tries if one not in same]
    most = max((one.share for one in rest), default=0.0)
    if best.share <= most + _CLEARLY or (other is not None and best.share < other.share):
        return tries
    return renumbered + rest


def _unknown_group(trials: Trials, ways: Sequence[Variant]) -> str:
    """Which group's the answers to all pairs are, where they are such; else nothing. Its subgroups are no
    tasks of fewer elements."""
    said = (in_words(answers) for _, answers in trials.like_groups(ways))
    return next((words for words in said if words), "")


def _does(trials: Trials, ranked: _Ranked, unknown: str) -> str:
    """What a network does that is right on too little under any reading, where its answers show it: two
    tasks, or the product of a group that is not among those tried; else nothing."""
    if ranked.share >= _WELL:
        return ""
    tables = {one.symbol: one.table for one in trials.tasks(len(ranked.answers)) if not one.swapped}
    tables |= {f"{symbol} with b first": table.T for symbol, table in tables.items()}
    return of_two_tasks(ranked.answers, tables) or unknown


def _of_several_signs(ranked: _Ranked) -> str:
    """That a network does several tasks, each under signs of its own, and how to say which is meant."""
    several = list(ranked.by_sign.values())
    each = ", ".join(f"{one.known.symbol} as {one.text!r} ({one.share:.3f} right)" for one in several)
    flags = []
    for one in several:
        section = {key: value for key, value in one.known.section.items() if key not in ("p", "name")}
        more = "".join(f" --set task.{key}={value}" for key, value in section.items())
        flags.append(f"--task {one.known.section['name']}{more}")
    said = f"this network does {len(several)} tasks, one for each of its signs: {each}"
    return f"{said}: say which is to be imported with {' or '.join(dict.fromkeys(flags))}"


def _taken_on_trust(trials: Trials, ranked: _Ranked, as_written: Sequence[_Try]) -> str | None:
    """What the best reading assumes of tokens or operands that is unusual and that nobody asked for, where it
    is right on too little to show it: another task's network is often right so often under some such
    reading."""
    if ranked.share >= _WELL or not ranked.above_chance:
        return None
    if "p" not in trials.wanted and ranked.best.text not in {one.text for one in as_written}:
        return f"tokens that are never used ({ranked.best.text!r})"
    if ranked.best.known.numbering is not None:
        return "its elements numbered in another order"
    return "its operands in the other order" if ranked.best.known.swapped else None


@dataclass(frozen=True, eq=False)
class _Ranked:
    """The best of several readings under the whole table, and how far it is ahead.

    Attributes:
        best: the reading.
        share: how much of the table, or of what may be its training set, is right.
        others: the next best tasks, and how much is right under them.
        n: how many pairs that share is of.
        above_chance: whether the best of so many readings would hardly ever be right on as many by chance.
        answers: what the network answers to all pairs.
        by_sign: tasks that it does under other tokens of the signs, with those and how much is then right;
            where there are any, the best one too.
    """

    best: _Try
    share: float
    others: list[tuple[float, str]]
    n: int
    above_chance: bool
    answers: Int[Tensor, "p p"]
    by_sign: dict[tuple[str, str], _Try]

    @classmethod
    def of(cls, trials: Trials, tries: Sequence[_Try], n_tried: int) -> _Ranked:
        best = max(tries, key=lambda one: one.share)
        p, sets = len(best.known.table), trials.cells(len(best.known.table))
        answers = trials.answers(best.variant, p, best.text, torch.arange(p * p))
        under_it = [one for one in tries if one.variant is best.variant]
        ranked = []
        for one in under_it:
            if one.text == best.text:
                shares = [(one.known.share(answers[cells], cells), cells) for cells in sets]
                ranked.append((*max(shares, key=lambda share: share[0] - len(share[1]) ** -0.5), one))
        share, cells, best = max(ranked, key=lambda one: one[0])
        others = {one.known.name: one.share for one in sorted(under_it, key=lambda one: one.share)}
        others |= {one.known.name: share for share, _, one in ranked}
        del others[best.known.name]
        usual, nats = best.known.constant(cells), best.known.nats(share, cells)
        above = share > usual + _MORE and nats > math.log(n_tried / _BY_CHANCE) + best.known.freedom
        n = int((best.known.table.flatten()[cells] >= 0).sum())
        by_share = sorted(((share, name[-1]) for name, share in others.items()), reverse=True)
        here = {one.known.name for share, _, one in ranked if share >= _WELL}
        elsewhere = [one for one in under_it if one.share >= _WELL and one.known.name not in here]
        by_sign = {one.known.name: one for one in [best, *elsewhere]} if share >= _WELL and elsewhere else {}
        return cls(best, share, by_share, n, above, answers.reshape(p, p), by_sign)

    @property
    def clear(self) -> bool:
        """Whether the task is the network's. Of few pairs it gets some right by chance, but not all."""
        few = 0.0 if self.share == 1 else self.n**-0.5
        return not self.others or self.share - self.others[0][0] >= _CLEARLY + few

    @property
    def shares(self) -> str:
        """The best readings, in words."""
        best = [(self.share, self.best.known.symbol), *self.others][:3]
        return "shares that are right: " + ", ".join(f"{symbol} {share:.3f}" for share, symbol in best)


def _divergence(share: float, chance: float) -> float:
    """Kullback-Leibler's, in nats: exp(-n divergence) bounds how often so much or more of n is right by
    chance. 0 where less is."""
    if share <= chance or chance >= 1:
        return 0.0
    rest = 1 - share
    return share * math.log(share / chance) + (rest * math.log(rest / (1 - chance)) if rest else 0.0)


def _with_its_tokens(trials: Trials, ranked: _Ranked, tries: Sequence[_Try], tried: str) -> Found:
    """The task with those tokens under which it is surest.

    A network that was trained on one operation alone may take any sign for it, and is surest with the one
    that it knows. The median loss decides: the mean is that of the few pairs which it gets wrong.
    """
    best, known = ranked.best, ranked.best.known
    of_section = [one for one in tries if one.known.section == known.section]
    alike = (known.swapped, known.numbering)
    of_task = [one for one in of_section if (one.known.swapped, one.known.numbering) == alike]
    as_good = [one for one in of_task if one.share >= best.share - _CLEARLY]
    texts = list(dict.fromkeys(one.text for one in as_good if one.variant is best.variant))
    medians = dict.fromkeys(texts[:_FEW_SPARE], 0.0)
    for text in medians if len(texts) > 1 else ():
        task = Operation.of(make_task(**known.written(text)))
        network, rows = known.of(best.variant).converted, sample(task.n_inputs)
        losses = behaviour(for_task(network.model, task), task, network.weights, rows).losses
        medians[text] = float(losses.median())
    least = min(medians.values())
    text = next(text for text, median in medians.items() if median <= _SURELY * least)
    section = known.written(text)
    shares = {one.variant: one.share for one in of_task if one.text == text}
    least_share = shares[best.variant] - 2 * min(ranked.n, _SAMPLE) ** -0.5
    equals = [way for way, share in shares.items() if share >= least_share]
    if not ranked.above_chance:
        equals = [best.variant]
    unlike = max((share for way, share in shares.items() if way not in equals), default=None)
    same_tokens = [other for other, median in medians.items() if other != text and median <= _SURELY * least]
    task = Operation.of(make_task(**section))
    of_rows = bool(trials.rows(task.p))
    next_best = ranked.others[:1]
    equals = [known.of(way) for way in equals]
    return Found(
        task, section, equals[0], equals, len(shares), unlike, ranked.above_chance, ranked.share, of_rows,
        next_best, same_tokens, tried, known.numbering
    )  # fmt: skip


def _in_words(ways: Sequence[Variant], tries: Sequence[_Try], n_tried: int) -> str:
    """What was tried."""
    values: dict[str, dict[str, None]] = {}
    for way in ways:
        for key, value in way.assumed.items():
            values.setdefault(key, {})[str(value)] = None
    texts = list(dict.fromkeys(one.text for one in tries))
    tasks = {one.known.section["name"] for one in tries}
    of_tasks = f"{len(tasks)} tasks" if len(tasks) > 1 else f"the task {next(iter(tasks))}"
    parts = [of_tasks, f"tokens {' or '.join(map(repr, texts[:4]))}"]
    parts += [f"{key} {' or '.join(options)}" for key, options in values.items() if len(options) > 1]
    return f"{n_tried:,} readings ({'; '.join(parts)})"
