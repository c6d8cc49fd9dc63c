"""How a network of sequences is read, tried out: one of sums digit by digit, or of another task whose
examples are more than two operands.

Of sums it is tried out how many digits the numbers have, which digit of the sum comes first, how a question
is written and which tokens its signs have. Digits are taken to be the tokens 0 to 9. A network may have more
positions than are read, which are then those behind, and more tokens than are seen.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import NotBelieved, UsageError
from ..tasks import Reads, Task, family, make_task, parse
from ..tasks.digits import Digits, name_of
from ..training.examples import one_thread
from .convert import POSITIONS, completed, positions_of
from .mapping import beginning, numbered
from .readings import Found, Trials, Variant, for_task, variants

_TEXTS = ("a + b =", "a + b = +", "a b =", "a + b", "a b", "a + b = ±", "bos a + b =", "bos a + b = +")
"""How a question may be written, the likelier first; a sign behind "=" is that of the sum."""
_KEYS = ("n", "answer", "order", "layout")
"""What may be open of a task of digits."""
_FEW, _SAMPLE = 192, 256
"""Answers on which a reading is tried out, and examples on which the best one is."""
_MOST_TRIALS = 300
_CLEARLY = 0.9
"""A reading under which so many of the digits are right is the one."""
_ABOVE_CHANCE = 0.15
"""So much more than the commonest answers give is no chance: of 20 times 300 readings of 192 random answers
the best had 0.115 more."""
_SURELY = 1.01
"""Tokens with which the mean loss is larger by less are not told apart."""


@dataclass(frozen=True)
class FoundSequences(Found):
    """The reading of a network of sequences that is believed; `share` is that of the answers."""

    sign: float | None = None
    """The share of questions of which the network predicts the sign of the sum, where it has one."""

    def of_the_task(self, share: float, of_training: float | None) -> Iterator[str]:
        """Sentences on the task and its tokens, where that share of the questions is right in full."""
        task = self.task
        several, are = len(task.reads.answers) > 1, task.examples_are
        written = f", {task.order}-endian, tokens {task.layout!r}" if isinstance(task, Digits) else ""
        text = f"task: {task.symbol}{written}: right on {share:.4f} of {task.n_representative:,} {are}"
        text += f" with every answer, and on {self.share:.4f} of {_SAMPLE} by answers" if several else ""
        text += "".join(f"; the next best, {other}, on {so_many:.4f}" for so_many, other in self.next_best)
        yield text
        yield f"tried were {self.tried}"
        yield from self._of_positions()
        if self.sign is not None:
            yield f"the sign of the sum is given to it; it predicts it itself of {self.sign:.4f} of the {are}"
        yield from self._reservations()


@dataclass(frozen=True, eq=False)
class _Try:
    """A section [task] under one way to read the weights.

    Attributes:
        share: how many of the answers are right.
        chance: how many would be, were the commonest given to all.
        least: that share of the answer that is right least often.
        loss: the mean cross-entropy (nats).
    """

    section: dict[str, Any]
    way: Variant
    share: float
    chance: float
    least: float
    loss: float

    @property
    def is_clear(self) -> bool:
        """Whether it is the one: numbers that are read with a digit too many or too few are mostly right, but
        for one answer."""
        return self.share >= _CLEARLY and self.least >= _CLEARLY - _ABOVE_CHANCE

    @property
    def above_chance(self) -> bool:
        return self.share > min(self.chance + _ABOVE_CHANCE, (1 + self.chance) / 2)

    def __str__(self) -> str:
        return ", ".join(f"{key} = {self.section[key]}" for key in _KEYS if key in self.section)


def is_of_sequences(trials: Trials) -> bool:
    """Whether a file is to be read as of a network of sequences: its task says so, or its shapes are those of
    no operation."""
    last, layout = trials.known.last, trials.known.layout
    if layout.is_of_sequences or last.tokens:
        return layout.is_of_sequences
    (vocab, _), (_, n_logits) = (last.weights[name].shape for name in ("embed.W_E", "unembed.W_U"))
    return not layout.may_have_spare_tokens(vocab, positions_of(last.weights), n_logits)


def find_sequences(trials: Trials, believe: bool = False) -> FoundSequences:
    """The reading under which the network gets most answers right.

    Raises:
        NotBelieved: it is right on no more than by chance; where it is not under another reading than asked
            for, that is named. Not where `believe` says that it is meant.
        UsageError: the network is too small for what is wanted.
    """
    ways = variants(trials.known, trials.content)
    wanted = {"name": "digit_addition", **trials.wanted}
    best, tries = _best(trials, wanted, ways)
    if not best.is_clear and not believe and (why_not := _why_not(trials, wanted, ways, best, tries)):
        raise NotBelieved(why_not)
    alike = [best]
    if "layout" in best.section:
        of_it = {key: value for key, value in best.section.items() if key != "layout"}
        of_texts = [one for one in tries if of_it.items() <= one.section.items() and one.way is best.way]
        alike = [one for one in of_texts if one.share >= best.share - _ABOVE_CHANCE] or alike
        best = min(alike, key=lambda one: one.loss)
    same = [one for one in alike if one is not best and one.loss <= _SURELY * best.loss]
    task = make_task(**best.section)
    of_ways = [_tried(best.section, way) for way in ways]
    least = max(one.share for one in of_ways) - _ABOVE_CHANCE
    of_ways = [_tried(one.section, one.way, _SAMPLE) if one.share >= least else one for one in of_ways]
    most = max(one.share for one in of_ways)
    equals = [
        one.way for one in of_ways if one.share >= most - 2 * (_SAMPLE * len(task.reads.answers)) ** -0.5
    ]
    if not best.above_chance:
        equals = [best.way]
    others = sorted(
        (one for one in tries if one.section != best.section and one not in same), key=lambda one: -one.share
    )
    return FoundSequences(
        task=task,
        section=best.section,
        variant=equals[0],
        equals=equals,
        n_ways=len(ways),
        unlike=max((one.share for one in of_ways if one.way not in equals), default=None),
        above_chance=best.above_chance,
        share=next(one.share for one in of_ways if one.way is equals[0]),
        of_rows=False,
        next_best=[(one.share, str(one)) for one in others[:1]],
        same_tokens=[str(one.section["layout"]) for one in same],
        tried=_in_words(tries),
        sign=_sign(task, equals[0]),
    )


def _best(trials: Trials, wanted: Mapping[str, Any], ways: Sequence[Variant]) -> tuple[_Try, list[_Try]]:
    """The best of all readings that go with what is wanted, and all that were tried."""
    kept = ("act_fn", "attention_mixing")
    usual = [way for way in ways if all(way.assumed.get(k) == ways[0].assumed.get(k) for k in kept)]
    tries: list[_Try] = []
    for sections in _sections(trials, wanted):
        few, clear, before = usual, None, len(tries)
        for section in sections:
            if clear is None and len(tries) - before >= _MOST_TRIALS:
                break
            # Once a reading is clearly the one, only its signs may still have other tokens.
            if clear is not None and _without_tokens(section) != _without_tokens(clear.section):
                continue
            these = [_tried(section, way) for way in few]
            tries += these
            likeliest = max(these, key=lambda one: one.share)
            if clear is None and likeliest.is_clear:
                clear, few = likeliest, [likeliest.way]
        if clear is not None:
            return clear, tries
    best = max(tries, key=lambda one: one.share - one.chance)
    return best if best.above_chance else tries[0], tries


def _without_tokens(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section [task] whose layout gives no numbers."""
    body = str(section.get("layout", "")).partition(" of ")[0]
    return {**section, "layout": [word.partition("@")[0] for word in body.split()]}


def _tried(section: dict[str, Any], way: Variant, n: int | None = None) -> _Try:
    """How well the network answers n examples drawn, by default a few."""
    task = make_task(**section)
    n = n or math.ceil(_FEW / len(task.reads.answers))
    drawn = task.draw(n, torch.Generator().manual_seed(0))
    logits = _logits(task, way, drawn.inputs).flatten(0, -2)
    asked = drawn.answers >= 0
    right = logits.argmax(1).reshape(asked.shape) == drawn.answers
    commonest = [column[column >= 0].bincount().max() for column in drawn.answers.T if (column >= 0).any()]
    losses = torch.nn.functional.cross_entropy(logits, drawn.answers.flatten(), ignore_index=-1)
    share = float(right[asked].double().mean())
    least = float((right.sum(0) / asked.sum(0)).nan_to_num(1).min())
    return _Try(section, way, share, float(sum(commonest)) / int(asked.sum()), least, float(losses))


def _logits(task: Task, way: Variant, inputs: Tensor) -> Tensor:
    """Logits at the answers, with an axis for them."""
    logits = _logits_where(task.reads, task, way, inputs)
    return logits if len(task.reads.answers) > 1 else logits[:, None]


def _logits_where(reads: Reads, task: Task, way: Variant, inputs: Tensor) -> Tensor:
    """Logits of the network that a way to read the weights gives, at the positions of `reads`."""
    model = for_task(way.converted.model, task)
    weights = completed(way.converted.weights, model.shapes(task.reads))
    with torch.no_grad(), one_thread():
        return model.logits(weights, inputs, reads)


def _sign(task: Task, way: Variant) -> float | None:
    """The share of questions of which the sign of the sum is the likeliest token behind "="; None without."""
    words, first = task.reads.words, task.reads.positions[0]
    n_logits = way.converted.model.d_vocab_out or 0
    if not isinstance(task, Digits) or first < 1 or words[first - 1] != "=":
        return None
    inputs = task.draw(_SAMPLE, torch.Generator().manual_seed(0)).inputs
    if (sign := int(inputs[0, first])) >= n_logits:
        return None
    at_sign = dataclasses.replace(task.reads, answers=("sign",), positions=(first - 1,))
    given = _logits_where(at_sign, task, way, inputs).argmax(1)
    return float((given == sign).double().mean())


# What may be tried


def _sections(trials: Trials, wanted: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Sections [task] that go with the network, in the order in which they are tried; in lists of which the
    next is tried where nothing was found in those before.

    Raises:
        UsageError: none goes with it.
    """
    weights = trials.known.last.weights
    n_ctx = positions_of(weights)
    if not n_ctx:
        raise UsageError(f"{wanted['name']} is read from tokens at several positions, of which it has none")
    vocab, n_logits = len(weights["embed.W_E"]), weights["unembed.W_U"].shape[1]
    if not issubclass(family(str(wanted["name"])), Digits):
        reads = make_task(**wanted).reads
        needs = {"tokens": (reads.d_vocab, vocab), "logits": (reads.n_logits, n_logits)}
        for what, (needed, has) in {"positions": (reads.n_ctx, n_ctx), **needs}.items():
            if needed > has or (what == "tokens" and needed < has):
                raise UsageError(
                    f"{wanted['name']} as asked for needs {needed} {what}, and the network has {has}: say "
                    "another size with --set task.KEY=VALUE"
                )
        if POSITIONS not in weights and not _fills_the_stacks(trials, wanted):
            raise UsageError(
                f"{wanted['name']} as asked for has its first answer at position {reads.positions[0]} of "
                f"{n_ctx}, and the network's stacks of layers divide them otherwise: say another size with "
                "--set task.KEY=VALUE"
            )
        yield [dict(wanted)]
        return
    if n_logits < 10 or vocab < 10:
        raise UsageError(f"digits need 10 tokens and 10 logits, and the network has {vocab} and {n_logits}")
    make_task(**wanted)  # which says what is wrong in it
    texts = _texts(trials, wanted, vocab)
    orders = [wanted["order"]] if "order" in wanted else ["big", "little"]
    together: list[tuple[int, dict[str, Any]]] = []
    alone: list[tuple[int, dict[str, Any]]] = []
    for n in [wanted["n"]] if "n" in wanted else range(1, 21):
        names = [name_of(place) for place in range(n + 1)]
        is_said = {"answer", "order"} & wanted.keys()
        for answer in [wanted.get("answer", "all")] if is_said else ["all", *names]:
            if answer not in ("all", *names):
                continue
            is_all = answer == "all"
            for (cost, text), (at, order) in itertools.product(
                texts, enumerate(orders if is_all else orders[:1])
            ):
                spare = n_ctx - _positions(text, n, is_all)
                # Of a network that has room for all digits one alone is no other reading.
                if spare >= 0 and (is_all or is_said or spare < n):
                    section = {"n": n, "order": order, "layout": text} | (
                        {} if is_all else {"answer": answer}
                    )
                    section = {**wanted, **section}
                    if POSITIONS not in weights and not _fills_the_stacks(trials, section):
                        continue
                    into = together if is_all or "answer" in wanted else alone
                    into.append((cost + 3 * max(0, spare - 1) + at, section))
    if not together and not alone:
        raise UsageError(_too_small(wanted, [text for _, text in texts], n_ctx, vocab))
    for several in (together, alone):
        if several:
            yield [section for _, section in sorted(several, key=lambda one: one[0])]


def _fills_the_stacks(trials: Trials, section: Mapping[str, Any]) -> bool:
    """Whether the question and the answers of a section [task] have as many positions as the two stacks of
    layers have that read them."""
    last, task = trials.known.last, make_task(**section)
    shapes = for_task(last.model, task).shapes(task.reads)
    return all(
        len(last.weights[name]) == shape[0] for name, shape in shapes.items() if name.endswith(POSITIONS)
    )


def _positions(text: str, n: int, is_all: bool) -> int:
    """How many positions a question takes, with the digits of the sum that are shown."""
    signs = len([word for word in text.partition(" of ")[0].split() if word not in ("a", "b")])
    return signs + 2 * n + n * is_all


def _too_small(wanted: Mapping[str, Any], texts: Sequence[str], n_ctx: int, vocab: int) -> str:
    """That no question fits the network, and what would."""
    if not texts:
        return (
            f"no way to write a question goes with the {vocab} tokens of the network, of which 10 are "
            "digits: say one with --set task.layout='...'"
        )
    n, is_all = wanted.get("n", 1), wanted.get("answer", "all") == "all"
    text = min(texts, key=lambda one: _positions(one, n, is_all))
    needed = _positions(text, n, is_all)
    fit = max((m for m in range(1, 21) if _positions(text, m, is_all) <= n_ctx), default=None)
    fits = f": at most n = {fit} fits" if fit else ""
    return f"numbers of {n} digits as {text!r} take {needed} positions, and the network has {n_ctx}{fits}"


def _texts(trials: Trials, wanted: Mapping[str, Any], vocab: int) -> list[tuple[int, str]]:
    """Layouts of a question with the tokens of its signs, each with how unlikely it is."""
    layout = trials.known.layout
    said = [numbered(text, 10) for text in layout.tokens]
    is_said = trials.known.name.endswith(".toml") and "tokens" in layout.model_fields_set
    plain = [str(wanted["layout"])] if "layout" in wanted else said if is_said else list(_TEXTS)
    texts: list[tuple[int, str]] = []
    for at, text in enumerate(plain):
        body, _, size = text.partition(" of ")
        if "layout" in wanted or "@" in text:
            needed = parse(text, 10).d_vocab
            if needed > vocab or (size and needed < vocab):
                raise UsageError(f"{text!r} is of {needed} tokens, and the network has {vocab}")
            texts.append((2 * at, text if needed == vocab else f"{text} of {vocab}"))
            continue
        words = list(dict.fromkeys(word for word in body.split() if word not in ("a", "b")))
        orders = sorted(itertools.permutations(range(10, vocab), len(words)), key=_unlikely)
        for cost, numbers in enumerate(orders):
            tokens = dict(zip(words, numbers, strict=True))
            texts.append((2 * at + cost, _written(body, tokens, vocab)))
    return texts


def _written(text: str, tokens: Mapping[str, int], vocab: int) -> str:
    """The layout with the tokens of its signs, where they do not follow the digits in order, and the size of
    the vocabulary."""
    words, several, free = [], text.split(), 10
    for word in several:
        number = tokens.get(word)
        is_plain = number in (None, free) and several.count(word) == 1
        words.append(word if is_plain else f"{word}@{number}")
        free = max(free, 1 + (number or 0))
    return " ".join(words) + (f" of {vocab}" if free < vocab else "")


def _unlikely(numbers: tuple[int, ...]) -> tuple[bool, int, tuple[int, ...]]:
    """Signs stand in the vocabulary as in a question, mostly, and the first ones are used."""
    return list(numbers) != sorted(numbers), sum(numbers), numbers


# In words


def _in_words(tries: Sequence[_Try]) -> str:
    """What was tried."""
    keys = {
        key: list(dict.fromkeys(one.section[key] for one in tries if key in one.section)) for key in _KEYS
    }
    parts = []
    for key, values in keys.items():
        shown = " or ".join(repr(value) if key == "layout" else str(value) for value in values[:4])
        more = f" and {len(values) - 4} more" if len(values) > 4 else ""
        parts += [f"{'tokens' if key == 'layout' else key} {shown}{more}"] if values else []
    parts = [f"the task {tries[0].section['name']}", *parts]
    return f"{len(tries):,} readings ({'; '.join(parts)})"


def _why_not(
    trials: Trials, wanted: Mapping[str, Any], ways: Sequence[Variant], best: _Try, tries: Sequence[_Try]
) -> str | None:
    """That no reading is right on more than by chance, or another than was asked for on clearly more; None
    where neither is so."""
    of = f"{best.share:.3f} of the answers, and whoever gives the commonest ones on {best.chance:.3f}"
    said = f"the import is not believed: it is right on {of}"
    asked = {key: wanted[key] for key in _KEYS if key in wanted}
    if asked:
        said += f", with {', '.join(f'{key} = {value}' for key, value in asked.items())}"
        left = {key: value for key, value in wanted.items() if key not in asked}
        other = _best(trials, left, ways)[0]
        if other.above_chance and other.share > best.share + _ABOVE_CHANCE / 2:
            return f"{said}; it is right on {other.share:.3f} with {other}: ask for that, or for less"
    if _tried(best.section, best.way, _SAMPLE).above_chance:
        return None
    said += f". Tried were {_in_words(tries)}"
    if "name" in trials.wanted:
        mapping = f"a mapping{beginning(trials.known.name)}"
        return (
            f"{said}. A network that was not trained, or one of another task or way to write it: say it with "
            f"--set task.KEY=VALUE or {mapping}, or import it as it stands with --believe"
        )
    weights, texts = trials.known.last.weights, " or ".join(map(repr, trials.known.layout.tokens))
    return (
        f"{said}. It takes {positions_of(weights)} tokens of {len(weights['embed.W_E'])} kinds and gives "
        f"{weights['unembed.W_U'].shape[1]} logits, which is no example of two operands written as {texts} "
        "either: a mapping with other `tokens`, or --task, could say how it is to be read"
    )
