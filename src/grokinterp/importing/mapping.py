"""How a family of foreign checkpoints is laid out, as a small TOML file: which key is which of our weights,
with which axes.

The built-in ones are in layouts/; a user's own is given by its path. docs/import.md explains every key. Knows
nothing of tensors.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from pydantic import Field, field_validator, model_validator

from ..errors import ConfigError, UsageError, nearest
from ..frozen import Frozen, checked, text_of
from ..models import DEFAULT_KIND, KINDS
from ..tasks import Operation, family, parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

AXES = {
    "vocab", "pos", "question_pos", "answer_pos", "d_model", "head", "d_head", "d_mlp", "out", "d_out",
    "operand", "part",
}  # fmt: skip
_P_TOKENS = re.compile(r"\bof\s+p(?:\+(\d{1,9}))?\s*$")
_P_NUMBER = re.compile(r"(?:(?<=@)|(?<=\bof ))p(?:\+(\d{1,9}))?(?=\s|$)")
_PART = re.compile(r"([1-9]\d{0,3}) of ([1-9]\d{0,3})")
_SHAPE = re.compile(r"\s*(\w+|\((\s*\w+)+\s*\))(\s+(\w+|\((\s*\w+)+\s*\)))*\s*")


class Source(Frozen):
    """Where one of our weights comes from."""

    key: str
    """The name in the file's state dict, with {layer} for the number of the layer, and with {head} where each
    head has a tensor of its own."""
    axes: str
    """The axes of the tensor there, as in einops: `d_model (head d_head)`."""
    part: str | None = None
    """For a fused tensor: `2 of 3`; one of its axes is then named `part`."""

    @field_validator("axes")
    @classmethod
    def _known_axes(cls, value: str) -> str:
        if not _SHAPE.fullmatch(value):
            raise ValueError("needs names of axes, such as 'd_model (head d_head)'")
        names = axis_names(value)
        if unknown := [name for name in names if name not in AXES]:
            raise ValueError(f"unknown axis {unknown[0]!r}{nearest(unknown[0], AXES)}")
        if len(set(names)) < len(names):
            raise ValueError("names an axis twice")
        return value

    @model_validator(mode="after")
    def _heads_once(self) -> Source:
        if self.is_by_head and "head" in axis_names(self.axes):
            raise ValueError(
                "{head} in the key says that the tensor there is one head's: leave head out of axes"
            )
        return self

    @model_validator(mode="after")
    def _part_of_an_axis(self) -> Source:
        if (self.part is None) == ("part" in axis_names(self.axes)):
            raise ValueError("part = '1 of 3' and an axis named part go together")
        if self.part is not None:
            match = _PART.fullmatch(self.part)
            if match is None or int(match[1]) > int(match[2]):
                raise ValueError(f"needs a part such as '1 of 3', got {self.part!r}")
        return self

    @property
    def is_by_head(self) -> bool:
        """Whether the tensor there is that of one head."""
        return "{head}" in self.key

    @property
    def axes_of_heads(self) -> str:
        """The axes of the tensors of all heads together."""
        return f"head {self.axes}" if self.is_by_head else self.axes

    @property
    def n_axes(self) -> int:
        """How many axes the tensor there has."""
        return len(re.findall(r"\([^)]*\)|\w+", self.axes))

    @property
    def index_and_count(self) -> tuple[int, int]:
        """Which part (from 0), of how many."""
        first, _, count = (self.part or "1 of 1").partition(" of ")
        return int(first) - 1, int(count)


class Lookup(Frozen):
    """A value that the file, or the settings beside it, knows."""

    at: str
    """A dotted path: `settings.lr`, or `file.` and a path into the checkpoint itself."""
    default: Any = None
    values: dict[str, Any] = Field(default_factory=dict)
    """What a value there means here, where the two are written differently."""

    yes_or_no = frozenset({"default"})


Paths = list[str]


class Contents(Frozen):
    """Where things are in the checkpoint: dotted paths, of several the first there is. "." is the top."""

    weights: Paths = Field(["."])
    """The state dict of the last, or the only, snapshot."""
    step: Paths = Field(default_factory=list)
    """Its step."""
    snapshots: Paths = Field(default_factory=list)
    """State dicts, in a list or in a dict by step."""
    steps: Paths = Field(default_factory=list)
    """Their steps, where they are in a list."""
    train_losses: Paths = Field(default_factory=list)
    """Numbers over steps, as series.py reads them; without it, and the next three, names are gone by."""
    test_losses: Paths = Field(default_factory=list)
    train_accuracies: Paths = Field(default_factory=list)
    test_accuracies: Paths = Field(default_factory=list)
    train_rows: Paths = Field(default_factory=list)
    """The examples trained on: row numbers a p + b, or pairs (a, b)."""
    test_rows: Paths = Field(default_factory=list)
    settings: Paths = Field(default_factory=list)
    """A configuration inside the checkpoint."""
    settings_file: str | None = None
    """A JSON file beside the checkpoint, named after it: `model_{}.pt -> config_{}.json`."""

    @field_validator("*", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any, info: Any) -> Any:
        return [value] if isinstance(value, str) and info.field_name != "settings_file" else value

    @field_validator("settings_file")
    @classmethod
    def _both_names(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[^/{}]*\{\}[^/{}]* -> [^/{}]*\{\}[^/{}]*", value):
            raise ValueError("needs two names, such as 'model_{}.pt -> config_{}.json'")
        return value


class Layout(Frozen):
    """A mapping file, read."""

    doc: str
    """What checkpoints these are."""
    kind: str = DEFAULT_KIND
    tokens: list[str] = Field(["a b =", "a b", "a op b ="], min_length=1)
    """Layouts of an example, of which those of the right length are tried. `p` is the number of elements."""
    p: int | None = Field(None, ge=2)
    """The number of elements, where the tokens do not tell."""
    task: dict[str, Any] = Field(default_factory=dict)
    """What they learned, where it is known: keys of a section [task]."""
    marks: list[str] = Field(default_factory=list)
    """Keys of the state dict by which files of this layout are told from others that would fit as well."""
    tied: bool = False
    """Whether the embedding is the readout too, W_U = W_E^T."""
    prefix: str | None = None
    """What the keys of the network begin with, where several networks are in one state dict; found without
    it."""
    contents: Contents = Contents()
    needs_settings: bool = False
    """Whether nothing can be said without the settings."""
    requires: dict[str, list[Any]] = Field(default_factory=dict)
    """Settings that can only have these values: others change the network in ways not expressed here."""
    model: dict[str, Any] = Field(default_factory=dict)
    """What shapes cannot tell of the network: keys of a configuration's [model], each a value or a Lookup."""
    training: dict[str, Lookup] = Field(default_factory=dict)
    """What is known of its training: keys of [training] of a configuration."""
    weights: dict[str, Source]
    ignore: list[str] = Field(default_factory=list)
    """Keys that hold no weights, such as masks."""
    copies: dict[str, str] = Field(default_factory=dict)
    """Keys that hold a copy of one of our weights; refused where they do not."""

    yes_or_no = frozenset({"needs_settings", "tied"})

    @model_validator(mode="before")
    @classmethod
    def _tied_is_of_the_model(cls, values: Any) -> Any:
        # It is a key of the section [model], and what it says is how weights are read.
        model = values.get("model") if isinstance(values, Mapping) else None
        if not isinstance(model, Mapping) or "tied" not in model:
            return values
        return {**values, "tied": model["tied"], "model": {k: v for k, v in model.items() if k != "tied"}}

    @field_validator("tokens", mode="before")
    @classmethod
    def _layouts(cls, value: Any) -> Any:
        texts = [value] if isinstance(value, str) else value
        for text in texts if isinstance(texts, list) else ():
            parse(numbered(str(text), 2), 2)
        return texts

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, value: str) -> str:
        if value not in KINDS:
            raise ValueError(f"unknown kind {value!r}{nearest(value, KINDS)}")
        return value

    @field_validator("model", mode="before")
    @classmethod
    def _values_and_lookups(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        lookups = {key: item for key, item in value.items() if isinstance(item, Mapping)}
        return {**value, **{key: Lookup.model_validate(item) for key, item in lookups.items()}}

    @model_validator(mode="after")
    def _elements_are_known(self) -> Layout:
        is_open = self.p is None and not self.is_of_sequences
        if is_open and any(re.search(r"@\d|\bof \d", text) for text in self.tokens):
            what = "with numbers of tokens the number of elements is needed too"
            raise ValueError(f"tokens: {what}: give p, or write @p+1 and of p+4")
        return self

    @model_validator(mode="after")
    def _known_weights(self) -> Layout:
        axes = KINDS[self.kind].axes
        for name in (*self.weights, *self.copies.values()):
            if name not in axes:
                raise ValueError(f"weights: unknown name {name!r}{nearest(name, axes)}")
        for name, source in self.weights.items():
            if our_axes(self.kind, name, source.axes_of_heads) is None:
                what = f"{name} has the axes {axes[name]!r}"
                raise ValueError(f"weights: {what}, which are not those of {source.axes!r}")
        return self

    @property
    def is_of_sequences(self) -> bool:
        """Whether the task is named and is no operation: an example is more than two operands."""
        return "name" in self.task and not issubclass(family(str(self.task["name"])), Operation)

    def plain_tokens(self, n_ctx: int | None) -> list[str]:
        """The layouts of that length that give no numbers, so that there may be tokens never used."""
        return [text for text in self._plain if len(text.split()) == n_ctx]

    def shorter_plain_tokens(self, n_ctx: int) -> list[str]:
        """Those that are shorter."""
        return [text for text in self._plain if len(text.split()) < n_ctx]

    @property
    def _plain(self) -> list[str]:
        return [text for text in self.tokens if not re.search(r"@|\bof\b", text)]

    def may_have_spare_tokens(self, vocab: int, n_ctx: int | None, n_logits: int) -> bool:
        """Whether a network with fewer logits than elements would have can still be one of fewer elements."""
        return bool(self.plain_tokens(n_ctx)) and vocab // 3 <= n_logits < vocab

    def examples(self, vocab: int, n_ctx: int | None, shorter: bool = False) -> Iterator[tuple[int, str]]:
        """The numbers of elements, and the layouts of tokens, that go with a vocabulary and a length, or with
        a vocabulary and fewer positions than there are."""
        for text in self.tokens:
            size = _P_TOKENS.search(text)
            signs = [word for word in text.split() if word not in ("a", "b")]
            p = self.p or (vocab - int(size[1] or 0) if size else vocab - len(signs))
            written = numbered(text, p)
            try:
                layout = parse(written, p)
            except ConfigError:
                continue
            n = len(layout.words)
            fits = n_ctx is not None and n < n_ctx if shorter else n_ctx in (None, n)
            if p >= 2 and layout.d_vocab == vocab and fits:
                yield p, written


def numbered(text: str, p: int) -> str:
    """A layout of tokens with numbers where it says `@p+1` and `of p+4`."""
    return _P_NUMBER.sub(lambda match: str(p + int(match[1] or 0)), text)


def our_axes(kind: str, name: str, axes: str) -> str | None:
    """The axes of our weight, in our order, where a tensor with `axes` holds just those; else None."""
    names = set(axis_names(axes)) - {"part"}
    several = KINDS[kind].axes[name].split("|")
    return next((ours.strip() for ours in several if set(axis_names(ours)) == names), None)


def axis_names(axes: str) -> list[str]:
    """The names in a text of axes, without its parentheses."""
    return re.findall(r"\w+", axes)


@functools.cache
def built_in() -> dict[str, Layout]:
    """The layouts that come with the package, by name."""
    files = (resources.files(__package__) / "layouts").iterdir()
    names = sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))
    return {name: read_layout(_text_of_built_in(name), name) for name in names}


def _text_of_built_in(name: str) -> str:
    return (resources.files(__package__) / "layouts" / f"{name}.toml").read_text(encoding="utf-8")


def layout_named(name: str) -> tuple[Layout, str]:
    """The layout of that name or in that file, and its text.

    Raises:
        UsageError: there is none; the nearest is named.
        ConfigError: the file is no mapping; the first mistake is named.
    """
    if name.endswith(".toml"):
        text = text_of(name, "mapping")
        return read_layout(text, name), text
    if name not in built_in():
        what = f"unknown layout {name!r}{nearest(name, ['auto', *built_in()])}"
        raise UsageError(f"{what}; or give the path of a mapping file, NAME.toml")
    return built_in()[name], _text_of_built_in(name)


def beginning(name: str) -> str:
    """How a mapping begins that says what a file of this layout leaves open, in parentheses; nothing where
    the layout is such a mapping itself."""
    return "" if name.endswith(".toml") else f' (a file NAME.toml that begins with like = "{name}")'


def _whole(values: dict[str, Any]) -> dict[str, Any]:
    """A mapping with what it leaves to the built-in one that it is `like`; tables are filled up by key."""
    if "like" not in values:
        return values
    like = str(values["like"])
    if like not in built_in():
        raise ConfigError(f"like: no built-in layout {like!r}{nearest(like, built_in())}")
    whole = tomllib.loads(_text_of_built_in(like))
    if "task" in values:  # whose examples are written in another way
        whole.pop("tokens", None)
    for key, value in values.items():
        is_table = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = {**whole[key], **value} if is_table else value
    del whole["like"]
    return whole


def read_layout(text: str, name: str) -> Layout:
    """The layout in the text of a mapping file.

    Raises:
        ConfigError: it is none; the message names the file and the first mistake.
    """
    try:
        return checked(Layout, _whole(tomllib.loads(text)))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"mapping {name}: it is no TOML: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"mapping {name}: {error}") from None
