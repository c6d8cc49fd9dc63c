"""How an example is written as tokens: `"a b ="`, `"a op b ="`, or a foreign network's own order and token
numbers.

Words are separated by spaces. `a` and `b` stand for the operands, each once; any other word is a token that
is the same in every example. The operands' elements have the tokens 0 .. p-1. The other tokens are numbered
from p on, in the order of the words, unless a word carries its number after `@`; `of N` at the end gives the
size of the vocabulary where that is larger. So `"a *@115 b =@116 of 117"` is a network with 113 elements that
knows four signs and sees two of them here.
"""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from ..errors import ConfigError

_WORD = re.compile(r"([^\s@]{1,12})(?:@(\d{1,9}))?")
_SIZE = re.compile(r"(.*\S)\s+of\s+(\d{1,9})")


class Layout(NamedTuple):
    """The tokens of an example.

    Attributes:
        words: one for each position.
        tokens: the token at each position, None for an operand.
        d_vocab: the number of tokens.
    """

    words: tuple[str, ...]
    tokens: tuple[int | None, ...]
    d_vocab: int


def parse(text: str, p: int) -> Layout:
    """The layout that a text describes, for p elements.

    Raises:
        ConfigError: the text is no layout, or a token has the number of an element or of another token, or
            lies outside the vocabulary.
    """
    words, numbers, size = _read(text)
    free = p
    tokens: list[int | None] = []
    for word, number in zip(words, numbers, strict=True):
        if word in ("a", "b"):
            tokens.append(None)
            continue
        token = free if number is None else number
        tokens.append(token)
        free = max(free, token + 1)
    # A sign may stand in several places where it says so by its number.
    signs = [token for _, token in {(w, t) for w, t in zip(words, tokens, strict=True) if t is not None}]
    d_vocab = max([p, *(token + 1 for token in signs)]) if size is None else size
    if len(set(signs)) < len(signs) or not all(p <= token < d_vocab for token in signs) or d_vocab < p:
        raise ConfigError(
            f"task.layout: in {text!r} every sign needs a token of its own from {p} on (those before are "
            f"the {p} elements), inside the vocabulary of {d_vocab}"
        )
    return Layout(words, tuple(tokens), d_vocab)


def _read(text: str) -> tuple[tuple[str, ...], tuple[int | None, ...], int | None]:
    sized = _SIZE.fullmatch(text)
    body, size = (sized[1], int(sized[2])) if sized else (text, None)
    matches = [_WORD.fullmatch(word) for word in body.split()]
    words = tuple(match[1] for match in matches if match)
    numbers = tuple(int(match[2]) if match[2] else None for match in matches if match)
    operands = sorted(match[0] for match in matches if match and match[1] in ("a", "b"))
    if len(words) < len(matches) or operands != ["a", "b"] or len(words) > 16:
        raise ConfigError(
            "task.layout: needs a and b once each and signs such as = between them, for example 'a op b ='"
        )
    return words, numbers, size


def _is_layout(text: str) -> str:
    try:
        _read(text)
    except ConfigError as error:
        raise ValueError(str(error).partition(": ")[2]) from None
    return text


LayoutText = Annotated[str, AfterValidator(_is_layout)]
