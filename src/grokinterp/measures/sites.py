"""Where the parts of a network are: the name of each, its hooks, and which entries of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from ..errors import NotApplicable, UsageError, nearest
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
    last = view.n_layers - 1
    if what == "neurons":
        size = view.neurons.shape[1]
        return [_whole(f"blocks.{last}.mlp.hook_post", marked(numbers(what, at, size), size))]
    if what == "head":
        needs(view, "attention")
        heads = int(view.model.cfg.n_heads)
        layer, head = numbers(what, at, max(view.n_layers, heads), count=2)
        if layer > last or head >= heads:
            there_are = f"there are {view.n_layers} layers of {heads} heads"
            raise UsageError(f"at: there is no head {head} in layer {layer}: {there_are}")
        return [_whole(f"blocks.{layer}.attn.hook_z", marked([head], heads)[:, None])]
    if what in ("mlp", "attention"):
        needs(view, what)
        layers = range(view.n_layers) if at is None else numbers(what, at, view.n_layers, count=1)
        return [_whole(f"blocks.{layer}.hook_{'mlp' if what == 'mlp' else 'attn'}_out") for layer in layers]
    if what in PIECES:
        return [_skip(view, what, last if at is None else numbers(what, at, view.n_layers, count=1)[0])]
    if what not in view.model.hook_dict:
        parts = (*PIECES, *AT_NO_HOOK, *view.model.hook_dict)
        raise UsageError(f"unknown part {what!r}{nearest(what, parts)}")
    size = recorded(view, what).shape[-1]
    return [_whole(what, None if at is None else marked(numbers(what, at, size), size))]


def _whole(hook: str, where: Bool[Tensor, "*entries"] | None = None) -> Site:
    """What is at a hook, for all that reads it."""
    return hook, ((hook, 1),), where


def _skip(view: View, what: str, layer: int) -> Site:
    needs(view, "attention" if what == "skip.attention" else "mlp")
    at, hooks = f"blocks.{layer}.", view.model.hook_dict
    before, between, after = at + "hook_resid_pre", at + "hook_resid_mid", at + "hook_resid_post"
    if before not in hooks:
        raise NotApplicable("the network has no residual stream")
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
    if f"blocks.0.{'mlp.W_in' if what == 'mlp' else 'attn.W_O'}" not in view.weights:
        raise NotApplicable("the network has no MLP" if what == "mlp" else "the network has no attention")


def numbers(what: str, at: Any, below: int, count: int | None = None) -> list[int]:
    """`at` as whole numbers from 0 to below − 1.

    Raises:
        UsageError: they are none, or not as many as needed.
    """
    try:
        whole = [operator.index(number) for number in listed(at)]
    except TypeError:
        raise UsageError(f"at: {what} needs whole numbers, got {at!r}") from None
    if count is not None and len(whole) != count:
        raise UsageError(f"at: {what} needs {count} {'number' if count == 1 else 'numbers'}, got {at!r}")
    if wrong := [number for number in whole if not 0 <= number < below]:
        raise UsageError(f"at: {what} has no {wrong[0]}: choose from 0 to {below - 1}")
    return whole


def listed(at: Any) -> list[Any]:
    """One number, or what holds several, as a list."""
    return list(at) if isinstance(at, Iterable) else [at]


def marked(chosen: Sequence[int], size: int) -> Bool[Tensor, "size"]:
    """The chosen of so many entries."""
    mask = torch.zeros(size, dtype=torch.bool)
    mask[list(chosen)] = True
    return mask
