"""Where the parts of a network are: the name of each, its hooks, and which entries of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ..asked import got
from ..errors import NotApplicable, UsageError, nearest
from ..models import Block
from ..view import View
from .interventions import recorded

PIECES = ("neurons", "head", "mlp", "attention", "skip.attention", "skip.into_mlp", "skip.mlp")
AT_NO_HOOK: dict[str, Callable[..., Any]] = {}
"""Parts that are no activation, such as frequencies of the logits, each with the function that makes an
`Ablation` of a View, `at`, `how`, the number of random controls and their generator."""

Site = tuple[str, tuple[tuple[str, int], ...], Bool[Tensor, "*entries"] | None]
"""The hook that is read, where the difference is added, and which entries are ablated."""


def sites(view: View, what: str, at: Any) -> list[Site]:
    """Where a part of the network is; ablation.py says which parts there are.

    Raises:
        UsageError: there is no such part of networks, or `at` does not fit it.
        NotApplicable: this network has no such part.
    """
    if what == "neurons":
        size = view.neurons.shape[1]
        return [_whole(view.blocks[-1].name("mlp.hook_post"), marked(numbers(what, at, size), size))]
    if what == "head":
        needs(view, "attention")
        labels = [heads.label for heads in view.heads]
        most = max(len(labels), *(heads.count for heads in view.heads))
        layer, head = numbers(what, _numbered(at, labels), most, count=2)
        if layer >= len(labels) or head >= view.heads[layer].count:
            there_are = f"there are {len(labels)} layers of {view.heads[-1].count} heads"
            raise UsageError(f"at: there is no head {head} in layer {layer}: {there_are}")
        chosen = view.heads[layer]
        return [_whole(chosen.name("hook_z"), marked([head], chosen.count)[:, None])]
    if what in ("mlp", "attention"):
        needs(view, what)
        of_mlp = [(block.label, block.name("hook_mlp_out")) for block in view.blocks]
        each = of_mlp if what == "mlp" else [(heads.label, heads.out) for heads in view.heads]
        labels = [label for label, _ in each]
        chosen = range(len(each)) if at is None else numbers(what, _numbered(at, labels), len(each), count=1)
        return [_whole(each[layer][1]) for layer in chosen]
    if what in PIECES:
        last, labels = view.n_layers - 1, [block.label for block in view.blocks]
        layer = last if at is None else numbers(what, _numbered(at, labels), view.n_layers, count=1)[0]
        return [_skip(view, what, view.blocks[layer])]
    if what not in view.hooks:
        parts = (*PIECES, *AT_NO_HOOK, *view.hooks)
        raise UsageError(f"unknown part {got(what)}{nearest(what, parts)}")
    size = recorded(view, what).shape[-1]
    return [_whole(what, None if at is None else marked(numbers(what, at, size), size))]


def _whole(hook: str, where: Bool[Tensor, "*entries"] | None = None) -> Site:
    """What is at a hook, for all that reads it."""
    return hook, ((hook, 1),), where


def _skip(view: View, what: str, block: Block) -> Site:
    needs(view, "attention" if what == "skip.attention" else "mlp")
    hooks = view.hooks
    before, between, after = (block.name(f"hook_resid_{where}") for where in ("pre", "mid", "post"))
    if before not in hooks:
        raise NotApplicable("the network has no residual stream")
    if what != "skip.attention" and block.name("hook_normalized_resid_post") in hooks:
        raise NotApplicable(
            "the stream is normalised behind each part, so it does not pass by the MLP as it is"
        )
    if what != "skip.attention" and block.crosses:
        if what == "skip.into_mlp":
            raise NotApplicable("between the stream round the attention and the MLP is a cross-attention")
        between = block.name("hook_resid_mid_cross")
    if what == "skip.mlp":
        return between, ((after, 1),), None
    if what == "skip.into_mlp":
        return before, ((between, 1), (after, -1)), None
    return before, ((between if between in hooks else after, 1),), None


def needs(view: View, what: str) -> None:
    """
    Raises:
        NotApplicable: the network has no `mlp`, or no `attention`.
    """
    part = "mlp.W_in" if what == "mlp" else "attn.W_O"
    if not any(block.name(part) in view.weights for block in view.blocks[:1]):
        raise NotApplicable("the network has no MLP" if what == "mlp" else "the network has no attention")


def numbers(what: str, at: Any, below: int, count: int | None = None) -> list[int]:
    """`at` as whole numbers from 0 to below − 1.

    Raises:
        UsageError: they are none, or not as many as needed.
    """
    try:
        whole = [operator.index(number) for number in listed(at)]
    except TypeError:
        raise UsageError(f"at: {what} needs whole numbers, got {got(at)}") from None
    if count is not None and len(whole) != count:
        raise UsageError(f"at: {what} needs {count} {'number' if count == 1 else 'numbers'}, got {got(at)}")
    if wrong := [number for number in whole if not 0 <= number < below]:
        raise UsageError(f"at: {what} has no {wrong[0]}: choose from 0 to {below - 1}")
    return whole


def _numbered(at: Any, labels: Sequence[str]) -> Any:
    """`at` with the number of a layer in place of what it is called, such as `decoder L0 cross`.

    Raises:
        UsageError: no layer is called so.
    """
    each = [at] if isinstance(at, str) else listed(at) if isinstance(at, Iterable) else []
    if not any(isinstance(one, str) for one in each):
        return at
    for one in each:
        if isinstance(one, str) and one not in labels:
            raise UsageError(f"at: no layer is called {got(one)}{nearest(one, labels)}: {', '.join(labels)}")
    return [labels.index(one) if isinstance(one, str) else one for one in each]


def listed(at: Any) -> list[Any]:
    """One number, or what holds several, as a list."""
    return list(at) if isinstance(at, Iterable) and getattr(at, "ndim", 1) == 1 else [at]


def marked(chosen: Sequence[int], size: int) -> Bool[Tensor, "size"]:
    """The chosen of so many entries."""
    mask = torch.zeros(size, dtype=torch.bool)
    mask[list(chosen)] = True
    return mask
