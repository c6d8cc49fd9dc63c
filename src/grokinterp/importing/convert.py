"""A foreign checkpoint under a layout -> our weights and the configuration of their network.

Every key of the state dict must be accounted for: a weight, a copy of one, or something that the layout
ignores by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import einops
import torch
from torch import Tensor

from ..errors import ConfigError, GrokinterpError, UsageError
from ..foreign import Record, shown
from ..models import KINDS, NetworkConfig, Weights, is_bias, network_config
from ..tasks import TASKS, Operation, family, make_task, task_parameters
from .mapping import Layout, Lookup, Paths, Source, axis_names, our_axes

_GIVEN_BY_THE_MODEL = {"head": "n_heads", "d_head": "d_head", "d_model": "d_model", "d_mlp": "d_mlp"}
_MOST_LAYERS = 64
_MOST_TOKENS_OF_DIGITS = 20
"""The digits and so many signs as a network of sums may know."""
POSITIONS = "pos_embed.W_pos"
"""The weights of which a network may have more rows than are read; what the names of those end with that
several stacks of layers have, which are all read."""
_MOST_TRIED = 10
"""Sizes of a task that are tried out."""
READOUT = "unembed.W_U"
_WHERE_TIED = ": where it is the embedding once more, a mapping says tied = true"
NOTHING = object()


class DoesNotFit(UsageError):
    """The file is not of this layout.

    Attributes:
        progress: how many stages it had passed, of: keys (then the share of them), shapes, tokens, settings.
    """

    def __init__(self, message: str, progress: int | float) -> None:
        super().__init__(message)
        self.progress = progress


class Diverged(GrokinterpError):
    """A network holds numbers that are not finite."""


@dataclass(frozen=True)
class Converted:
    """What a state dict says under a layout.

    Attributes:
        model: the configuration of the network; `d_vocab_out` is its number of logits.
        tokens: how an example may be written: numbers of elements, and layouts of tokens.
        weights: under our names, in our shapes.
        assumed: what neither the file nor its settings say.
    """

    model: NetworkConfig
    tokens: list[tuple[int, str]]
    weights: Weights
    assumed: list[str]


def found(content: Any, settings: Any, path: str) -> Any:
    """What is at a dotted path that begins with `file` or `settings`; NOTHING where there is nothing."""
    value: Any = {"file": content, "settings": settings}
    for part in path.split("."):
        value = value.fields if isinstance(value, Record) else value
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return NOTHING
    return value


def first(content: Any, paths: Paths) -> Any:
    """What is at the first of several paths into the checkpoint that leads to something, or NOTHING."""
    places = (content if path == "." else found(content, None, f"file.{path}") for path in paths)
    return next((value for value in places if value is not NOTHING and value is not None), NOTHING)


def looked_up(lookup: Lookup, content: Any, settings: Any) -> Any:
    """The value of a Lookup; NOTHING where it is nowhere and there is no default."""
    value = found(content, settings, lookup.at)
    if value is NOTHING:
        return NOTHING if lookup.default is None else lookup.default
    value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    return lookup.values.get(str(value), value)


def is_state_dict(value: Any) -> bool:
    """Whether this is a dict of tensors by name."""
    if not isinstance(value, Mapping) or not value:
        return False
    return all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())


def convert(layout: Layout, state: Mapping[str, Tensor], content: Any, settings: Any) -> Converted:
    """
    Raises:
        DoesNotFit: keys, shapes or settings are not those of the layout; the first that is not is named.
    """
    kind, tensors = KINDS[layout.kind], _tensors(layout, state)
    facts, assumed, unknown = _facts(layout, content, settings)
    assumed += _without_ones(layout, state)
    assumed += ["tied embeddings, W_U = W_E^T"] * layout.tied
    sizes = _sizes(tensors, facts)
    if of_stacks := [size for axis, size in sizes.items() if axis.endswith("_pos")]:
        sizes["pos"] = sum(of_stacks)
    tokens = _tokens(layout, sizes)
    _check_settings(layout, settings, unknown)
    weights = {
        name: _rearranged(layout.kind, name, tensor, source, sizes)
        for name, (tensor, source) in tensors.items()
    }
    _check_copies(layout, state, tensors)
    shown = kind.shown(weights.keys(), sizes)
    if "normalization" in shown and facts.get("normalization", "auto") == "auto":
        facts["normalization"] = shown["normalization"]
        assumed += ["no normalisation (there are no weights of one)"] * (shown["normalization"] == "none")
    facts = shown | facts
    _check_sizes(settings, facts, sizes)
    try:
        model = network_config({"kind": layout.kind, **facts, "d_vocab_out": sizes["out"]})
    except ConfigError as error:
        raise DoesNotFit(f"such a network cannot be expressed: {error}", 3) from None
    return Converted(model, tokens, weights, assumed)


def _check_sizes(settings: Any, facts: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Settings that give sizes give those of the weights, and the scale of attention is that of the heads."""
    ours = {**facts, "d_vocab": sizes.get("vocab"), "n_ctx": sizes.get("pos")}
    for key in ("n_layers", "n_heads", "d_head", "d_model", "d_mlp", "d_vocab", "n_ctx"):
        theirs = found(None, settings, f"settings.{key}")
        is_size = isinstance(theirs, int) and not isinstance(theirs, bool)
        if is_size and ours.get(key) not in (None, theirs):
            raise DoesNotFit(f"its settings have {key} = {theirs}, and its weights {ours[key]}", 3)
    scale = found(None, settings, "settings.attn_scale")
    is_scale = isinstance(scale, int | float) and scale > 0
    if is_scale and not math.isclose(scale, math.sqrt(sizes["d_head"]), rel_tol=1e-6):
        _cannot_be("attn_scale", scale, f"the root of d_head, {sizes['d_head']},")


def _tensors(layout: Layout, state: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Source]]:
    """For each of our weights that the file has, layers numbered, the tensor with its axes: that which has
    its key, or those of several heads as one."""
    if missing := [mark for mark in layout.marks if mark not in state]:
        raise DoesNotFit(f"its state dict has no {missing[0]}", 0)
    patterns = [key_pattern(source.key) for source in layout.weights.values() if "{layer}" in source.key]
    matches = [match for pattern in patterns for key in state if (match := pattern.fullmatch(key))]
    numbers = {int(match["layer"]) for match in matches}
    first = 1 if 1 in numbers and 0 not in numbers else 0
    n_layers = 1 + max(numbers, default=first) - first
    if n_layers > _MOST_LAYERS:
        what = f"networks of up to {_MOST_LAYERS} layers are read"
        raise DoesNotFit(f"it has a layer {n_layers - 1}, and {what}", 0)
    tensors: dict[str, tuple[Tensor, Source]] = {}
    used: set[str] = set()
    for target, source in layout.weights.items():
        for layer in range(n_layers if "{layer}" in source.key else 1):
            name, key = (
                text.replace("{layer}", str(number))
                for text, number in ((target, layer), (source.key, layer + first))
            )
            keys = _keys_of_heads(key, state)
            if keys:
                tensors[name] = _joined(keys, state, source.model_copy(update={"key": key}))
                used |= {*keys}
            elif not KINDS[layout.kind].can_lack(name) and not (layout.tied and name == READOUT):
                raise DoesNotFit(f"its state dict has no {key}{_WHERE_TIED * (name == READOUT)}", 0)
    if layout.tied:
        used |= _tie(tensors, state)
    ignored = [key_pattern(pattern) for pattern in (*layout.ignore, *layout.copies)]
    left_over = sorted(
        key for key in state.keys() - used if not any(pattern.fullmatch(key) for pattern in ignored)
    )
    if left_over:
        more = f" and {len(left_over) - 1} more" if len(left_over) > 1 else ""
        what = f"its state dict holds {left_over[0]!r}{more}, which this layout does not know"
        raise DoesNotFit(what, 1 - len(left_over) / len(state))
    return tensors


def _without_ones(layout: Layout, state: Mapping[str, Tensor]) -> list[str]:
    """The keys of which axes of length 1 are left out."""
    of = {key_pattern(source.key): source for source in layout.weights.values()}
    pairs = ((key, source) for key in state for pattern, source in of.items() if pattern.fullmatch(key))
    keys = [key for key, source in pairs if _squeezed(state[key], source) is not state[key]]
    return [f"{shown(key)} without its axes of length 1" for key in dict.fromkeys(keys)]


def _keys_of_heads(key: str, state: Mapping[str, Tensor]) -> list[str]:
    """The key, or with {head} in it those of all heads in their order; none where the file has none."""
    if "{head}" not in key:
        return [key] if key in state else []
    pattern = key_pattern(key)
    numbers = sorted(int(match["head"]) for one in state if (match := pattern.fullmatch(one)))
    of = {number: key.replace("{head}", str(number)) for number in numbers}
    first = numbers[0] if numbers else 0
    if missing := sorted({*range(first, first + len(numbers))} - {*numbers}):
        raise DoesNotFit(f"its state dict has no {key.replace('{head}', str(missing[0]))}", 0)
    return [one for one in of.values() if one in state]


def _joined(keys: Sequence[str], state: Mapping[str, Tensor], source: Source) -> tuple[Tensor, Source]:
    """The tensor of one of our weights, with the axes that it then has."""
    several = [_squeezed(state[key], source) for key in keys]
    if not source.is_by_head:
        return several[0], source
    if len({(tensor.shape, tensor.dtype) for tensor in several}) > 1:
        raise DoesNotFit(f"its heads under {source.key} are not of one shape", 1)
    whole = source.model_copy(update={"axes": source.axes_of_heads})
    return torch.stack(several), whole


def _squeezed(tensor: Tensor, source: Source) -> Tensor:
    """The tensor without as many axes of length 1 as it has too many, the first ones."""
    too_many = tensor.dim() - source.n_axes
    ones = [axis for axis, size in enumerate(tensor.shape) if size == 1]
    return tensor.squeeze(tuple(ones[:too_many])) if 0 < too_many <= len(ones) else tensor


def _tie(tensors: dict[str, tuple[Tensor, Source]], state: Mapping[str, Tensor]) -> set[str]:
    """Makes the embedding the readout too; the keys under which the file has it once more."""
    if "embed.W_E" not in tensors:
        raise DoesNotFit("tied = true, and it has no embed.W_E that could be the readout too", 1)
    embedding, source = tensors["embed.W_E"]
    if READOUT in tensors and not _is_copy(tensors[READOUT][0], embedding):
        raise DoesNotFit(f"tied = true, and {tensors[READOUT][1].key} is no copy of {source.key}", 1)
    axes = re.sub(r"\bvocab\b", "out", source.axes)
    tensors[READOUT] = embedding, source.model_copy(update={"axes": axes})
    return {key for key, tensor in state.items() if _is_copy(tensor, embedding)}


def _is_copy(tensor: Tensor, other: Tensor) -> bool:
    return torch.equal(tensor, other) or (other.dim() == 2 and torch.equal(tensor, other.T))


def key_pattern(pattern: str) -> re.Pattern[str]:
    """A key with {layer} and {head} in it as an expression with groups of these names."""
    text = re.escape(pattern)
    for group in ("layer", "head"):
        text = text.replace(re.escape(f"{{{group}}}"), rf"(?P<{group}>\d{{1,4}})", 1)
    return re.compile(text)


def _facts(layout: Layout, content: Any, settings: Any) -> tuple[dict[str, Any], list[str], list[str]]:
    """What is known of the network without its weights, what of that is assumed, and what settings lack."""
    facts: dict[str, Any] = {}
    assumed, unknown = [], []
    if "d_vocab_out" in layout.model:
        what = "its mapping says d_vocab_out under [model], which the shape of unembed.W_U says"
        raise DoesNotFit(f"{what}: leave it out", 3)
    for key, item in layout.model.items():
        value = looked_up(item, content, settings) if isinstance(item, Lookup) else item
        if value is NOTHING:
            unknown.append(item.at)
            continue
        facts[key] = value
        is_said = isinstance(item, Lookup) and found(content, settings, item.at) is not NOTHING
        if value != "auto" and not is_said:
            assumed.append(f"{key} = {value}")
    return facts, assumed, unknown


def _check_settings(layout: Layout, settings: Any, unknown: list[str]) -> None:
    if layout.needs_settings and settings is None:
        where = f" beside it ({layout.contents.settings_file})" if layout.contents.settings_file else ""
        what = f"it needs its settings, which are not there{where}"
        raise DoesNotFit(f"{what}: give them with --config-file", 3)
    if unknown:
        raise DoesNotFit(f"its settings do not say {unknown[0].removeprefix('settings.')}", 3)
    for key, allowed in layout.requires.items():
        value = found(None, settings, f"settings.{key}")
        if value is not NOTHING and value not in allowed and str(value) not in map(str, allowed):
            _cannot_be(key, repr(value), " or ".join(map(str, allowed)))


def _cannot_be(key: str, value: object, expressed: str) -> NoReturn:
    raise DoesNotFit(f"its settings have {key} = {value}, and only {expressed} can be expressed", 3)


def _tokens(layout: Layout, sizes: Mapping[str, int]) -> list[tuple[int, str]]:
    """How an example of two operands may be written: numbers of elements, and layouts of tokens. None where
    the task is no operation, or its shapes are rather those of sums digit by digit."""
    if missing := [axis for axis in ("vocab", "out") if axis not in sizes]:
        raise DoesNotFit(f"none of its weights has the axis {missing[0]}", 1)
    if layout.is_of_sequences:
        return []
    # Rows of `pos_embed.W_pos` may be left out, those of several stacks not.
    is_of_digits = "name" not in layout.task and may_be_digits(sizes["vocab"], sizes.get("pos"), sizes["out"])
    may_be_shorter = not is_of_digits and "question_pos" not in sizes
    for shorter in (False, True)[: 1 + may_be_shorter]:
        examples = layout.examples(sizes["vocab"], sizes.get("pos"), shorter)
        if tokens := [(p, text) for p, text in examples if p <= sizes["out"]]:
            return tokens
    if layout.may_have_spare_tokens(sizes["vocab"], sizes.get("pos"), sizes["out"]):
        return tokens
    if "name" in layout.task or not may_be_digits(sizes["vocab"], sizes.get("pos"), sizes["out"]):
        takes = f"{sizes['pos']} tokens" if "pos" in sizes else "tokens"
        what = f"it takes {takes} of {sizes['vocab']} kinds and gives {sizes['out']} logits"
        raise DoesNotFit(
            f"{what}, which is no example of two operands written as {' or '.join(map(repr, layout.tokens))}"
            f": {_to_be_said(sizes)}",
            2,
        )
    return tokens


def _to_be_said(sizes: Mapping[str, int]) -> str:
    """Which tasks have examples of these shapes and how to ask for one, or what else may say it."""
    fitting = {name: said for name in TASKS if (said := _fitting(name, sizes)) is not None}
    if not fitting:
        return (
            "say of which task it is with --task NAME and --set task.KEY=VALUE, or how it is read with a "
            "mapping that has other `tokens`"
        )
    named = " or ".join(f"--task {name}{said}" for name, said in fitting.items())
    return f"those of {' and '.join(fitting)} have these shapes: say so with {named}"


def _fitting(name: str, sizes: Mapping[str, int]) -> str | None:
    """The size with which a task that is no operation has examples of these shapes, as the command line sets
    it: empty where it is the default; None where there is none, its other parameters being the default."""
    if issubclass(family(name), Operation):
        return None
    sized = "n" in task_parameters(name).model_fields
    for n in [None, *(range(1, _MOST_TRIED + 1) if sized else ())]:
        try:
            reads = make_task(name, **({} if n is None else {"n": n})).reads
        except Exception:  # a task of a user's own, or none of that size
            continue
        shapes = {"vocab": reads.d_vocab, "pos": reads.n_ctx, "out": reads.n_logits}
        if "question_pos" in sizes:
            shapes["question_pos"] = reads.positions[0]
        if all(sizes.get(axis) == size for axis, size in shapes.items()):
            return "" if n is None else f" --set task.n={n}"
    return None


def may_be_digits(vocab: int, n_ctx: int | None, n_logits: int) -> bool:
    """Whether a network of these shapes may add numbers of several digits."""
    return 10 <= n_logits <= vocab and 10 < vocab <= _MOST_TOKENS_OF_DIGITS and (n_ctx or 0) >= 8


def positions_of(weights: Mapping[str, Tensor]) -> int:
    """The number of positions that a network has, in all of its stacks of layers."""
    return sum(len(weight) for name, weight in weights.items() if name.endswith(POSITIONS))


def _sizes(tensors: Mapping[str, tuple[Tensor, Source]], facts: Mapping[str, Any]) -> dict[str, int]:
    """The size of every axis, by name, from the shapes of all tensors together."""
    said = {axis: facts.get(key) for axis, key in _GIVEN_BY_THE_MODEL.items()}
    sizes = {"operand": 2} | {axis: size for axis, size in said.items() if isinstance(size, int)}
    if wrong := [axis for axis, size in sizes.items() if size < 1 or isinstance(size, bool)]:
        what = f"{_GIVEN_BY_THE_MODEL[wrong[0]]} = {sizes[wrong[0]]}"
        raise DoesNotFit(f"its mapping says {what}, and at least 1 is needed", 3)
    while True:
        n_known = len(sizes)
        open_axes = [axis for one in tensors.values() for axis in _solve(*one, sizes)]
        if not open_axes:
            return sizes
        if len(sizes) == n_known:
            key = _GIVEN_BY_THE_MODEL.get(min(open_axes), min(open_axes))
            what = f"shapes alone do not tell {key}"
            raise DoesNotFit(f"{what}: a mapping says it under [model], {key} = ...", 2)


def _solve(tensor: Tensor, source: Source, sizes: dict[str, int]) -> set[str]:
    """Adds to `sizes` what one tensor's shape tells; the axes that it cannot tell yet."""
    groups = [axis_names(group) for group in re.findall(r"\([^)]*\)|\w+", source.axes)]
    wrong = DoesNotFit(f"{source.key} has the shape {list(tensor.shape)}, which is no {source.axes!r}", 1)
    if not tensor.is_floating_point():
        raise DoesNotFit(f"{source.key} holds {tensor.dtype}, which are no weights", 1)
    if len(groups) != tensor.dim():
        raise wrong
    sizes_of_part = {**sizes, "part": source.index_and_count[1]}
    unsolved: set[str] = set()
    for group, size in zip(groups, tensor.shape, strict=True):
        unknown = [axis for axis in group if axis not in sizes_of_part]
        rest = math.prod(sizes_of_part[axis] for axis in group if axis in sizes_of_part)
        if size < 1 or size % rest or (not unknown and size != rest):
            where = ", ".join(f"{axis} {sizes_of_part[axis]}" for axis in group if axis in sizes_of_part)
            raise DoesNotFit(f"{wrong}{' with ' if where else ''}{where}", 1)
        if len(unknown) == 1:
            sizes[unknown[0]] = sizes_of_part[unknown[0]] = size // rest
        elif unknown:
            unsolved |= set(unknown)
    return unsolved


def _rearranged(kind: str, name: str, tensor: Tensor, source: Source, sizes: Mapping[str, int]) -> Tensor:
    """Our weight out of a foreign tensor, in memory of its own."""
    of_layers = re.sub(r"\bblocks\.\d+\.", "blocks.{layer}.", name)
    ours = our_axes(kind, name if name in KINDS[kind].axes else of_layers, source.axes)
    assert ours is not None
    index, count = source.index_and_count
    fused = "part" in axis_names(source.axes)
    counts = {axis: count if axis == "part" else sizes[axis] for axis in axis_names(source.axes)}
    turned = einops.rearrange(tensor, f"{source.axes} -> {'part ' if fused else ''}{ours}", **counts)
    weight = (turned[index] if fused else turned).detach().cpu()
    weight = weight if weight.dtype == torch.float64 else weight.to(torch.float32)
    if not weight.isfinite().all():
        raise Diverged(f"{source.key} holds numbers that are not finite: the network had diverged")
    return weight.clone(memory_format=torch.contiguous_format)


def _check_copies(
    layout: Layout, state: Mapping[str, Tensor], tensors: Mapping[str, tuple[Tensor, Source]]
) -> None:
    for key, target in layout.copies.items():
        if key in state and not (target in tensors and torch.equal(state[key], tensors[target][0])):
            what = f"{key!r} is not the copy of {target} that it is in this layout"
            raise DoesNotFit(f"{what}: what it does there is not known", 2)


def completed(weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> Weights:
    """The weights with every bias that the file lacks at 0, in the order of the computation; of positions
    those that are read, the first ones.

    Raises:
        DoesNotFit: a weight is missing, or one is there that this network has no place for.
    """
    missing = sorted(name for name in shapes.keys() - weights.keys() if not is_bias(name))
    if odd := sorted(weights.keys() - shapes.keys()) or missing:
        what = "no place for" if odd[0] in weights else "no"
        raise DoesNotFit(f"such a network cannot be expressed: it has {what} {odd[0]}", 3)
    if POSITIONS in shapes:
        weights = weights | {POSITIONS: weights[POSITIONS][: shapes[POSITIONS][0]]}
    dtype = max((weight.dtype for weight in weights.values()), key=lambda dtype: dtype.itemsize)
    return {
        name: weights[name] if name in weights else torch.zeros(shape, dtype=dtype)
        for name, shape in shapes.items()
    }
