"""The symbols of a task, and the tokens under which a network sees them.

A symbol is a value: a number, the name of a permutation, any hashable thing. The same value as operand and as
answer is the same symbol.

    plain      the operands' symbols have the tokens 0 .. p-1, in their order; class i of the answers is logit
               i
    written    where a task says which symbols can be written (a convention may have more than it uses), these
               have the tokens 0, 1, 2, ... in their order, and there is a logit for every token: that of its
               symbol
    opaque     all tokens, the signs' among them, are permuted by a seed. Where every answer is a symbol that
               has a token, there is a logit for every token, so that a symbol is embedded and unembedded
               under one number; else the logits are permuted on their own

Everything outside the network speaks of operand values and answer classes in the order of their symbols,
whatever the tokens.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from numbers import Real
from typing import Annotated

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from .layout import Layout, parse

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""torch's CPU generator takes 32 bits: larger seeds would repeat smaller ones."""


@dataclass(frozen=True)
class Symbols:
    """What operands and answers are.

    Attributes:
        operands: the symbol of each operand value.
        answers: the symbol of each answer class.
        written: every symbol that has a token, in the order of the tokens; None: the operands alone, and a
            logit for each answer.
    """

    operands: tuple[Hashable, ...]
    answers: tuple[Hashable, ...]
    written: tuple[Hashable, ...] | None = None


@dataclass(frozen=True)
class Encoding:
    """What a network sees in place of symbols.

    Attributes:
        operands: the token of each operand value.
        answers: the logit of each answer class.
        layout: the words of an example, the tokens of its signs, and the number of tokens.
        names: what each token is.
        logits: what each logit is: the token of its number where answers have tokens, used or not, else an
            answer.
    """

    operands: Int[Tensor, "p"]
    answers: Int[Tensor, "answers"]
    layout: Layout
    names: tuple[str, ...]
    logits: tuple[str, ...]


def encoded(symbols: Symbols, layout: str, opaque: int | None = None) -> Encoding:
    """The tokens of these symbols and of the signs of a layout, permuted by the seed `opaque` where there is
    one.

    Raises:
        ConfigError: the layout gives a sign the token of a symbol.
    """
    written = symbols.operands if symbols.written is None else symbols.written
    token_of = {symbol: token for token, symbol in enumerate(written)}
    words = parse(layout, len(written))
    d_vocab = words.d_vocab
    names = [*named(written), *(f"token {token}" for token in range(len(written), d_vocab))]
    for word, token in zip(words.words, words.tokens, strict=True):
        if token is not None:
            names[token] = "∘" if word == "op" else word
    operands = torch.tensor([token_of[symbol] for symbol in symbols.operands])
    have_tokens = token_of.keys() >= set(symbols.answers)
    one_number = symbols.written is not None or (opaque is not None and have_tokens)
    numbers = [token_of[symbol] for symbol in symbols.answers] if one_number else range(len(symbols.answers))
    answers = torch.tensor(numbers)
    logits = tuple(names) if one_number else named(symbols.answers)
    if opaque is None:
        return Encoding(operands, answers, words, tuple(names), logits)
    generator = torch.Generator().manual_seed(opaque)
    of_token = torch.randperm(d_vocab, generator=generator)
    of_logit = of_token if one_number else torch.randperm(len(logits), generator=generator)
    signs = tuple(None if token is None else int(of_token[token]) for token in words.tokens)
    return Encoding(
        of_token[operands],
        of_logit[answers],
        words._replace(tokens=signs),
        tuple(names[token] for token in of_token.argsort().tolist()),
        tuple(logits[logit] for logit in of_logit.argsort().tolist()),
    )


def named(symbols: tuple[Hashable, ...]) -> tuple[str, ...]:
    """What stands on axis labels for each symbol; as Python writes it where several look the same, as 1 and
    "1" do."""
    names = tuple(map(str, symbols))
    return names if len(set(names)) == len(names) else tuple(map(repr, symbols))


def numbers(symbols: tuple[Hashable, ...]) -> tuple[float, ...]:
    """The number that each symbol is; none where one of them is no finite number."""
    found: list[float] = []
    for symbol in symbols:
        if not isinstance(symbol, Real) or isinstance(symbol, bool):
            return ()
        try:
            found.append(float(symbol))
        except OverflowError:  # a whole number of four hundred digits
            return ()
    return tuple(found) if all(map(math.isfinite, found)) else ()
