"""Changes of a network's activations at the answer position, and the logits that follow from them.

A change reads the activation at one hook, and adds the difference between what is put in its place and what
is there at one or more hooks: at the same one to replace it, elsewhere to replace it for some of its readers
only. Other positions are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from ..errors import NotApplicable
from ..view import View
from .base import once_per_view

_READ = ("attn.W_O", "mlp.W_in", "mlp.W_out")
_TOGETHER = 512
"""Examples of which logits are computed at a time, in the processor's cache."""
PROBED = 32
"""Examples on which the shortcut is compared with the network before it is used."""


@dataclass(frozen=True)
class Change:
    """A replacement of one activation at the answer position.

    Attributes:
        read: the hook that is read.
        added: where the difference is added, and with which sign.
        value: what is put in its place: one value, or one for every example.
        where: the entries that are replaced; None for all.
        rotation: turns the difference, laid out as one axis, before it is added.
    """

    read: str
    added: tuple[tuple[str, int], ...]
    value: Float64[Tensor, "rows *rest"]
    where: Bool[Tensor, "*entries"] | None = None
    rotation: Float64[Tensor, "d d"] | None = None

    def difference(
        self, here: Float64[Tensor, "n *rest"], value: Float64[Tensor, "rows *rest"]
    ) -> Float64[Tensor, "n *rest"]:
        """What has to be added to the activation."""
        difference = value - here
        if self.where is not None:
            difference = difference * self.where
        return difference if self.rotation is None else (difference.flatten(1) @ self.rotation).view_as(here)

    def edits(self, view: View) -> list[tuple[str, Callable[..., Tensor]]]:
        """Hook functions that make the change, for one pass over the table in its order."""
        first, difference = 0, torch.empty(0)

        def see(x: Tensor, hook: object) -> Tensor:
            nonlocal first, difference
            here = view.at_answer(self.read, x)
            value = self.value if len(self.value) == 1 else self.value[first : first + len(here)]
            difference = self.difference(here.cpu(), value).to(x.device)
            first += len(here)
            return x

        def adding(name: str, sign: int) -> Callable[..., Tensor]:
            def add(x: Tensor, hook: object) -> Tensor:
                x = x.clone()
                view.at_answer(name, x).add_(difference, alpha=sign)
                return x

            return add

        return [(self.read, see), *((name, adding(name, sign)) for name, sign in self.added)]


def put(view: View, hook: str, values: Float64[Tensor, "n ..."]) -> tuple[str, Callable[..., Tensor]]:
    """An edit that puts other values, given in table order, in place of an activation at the answer
    position."""
    done = 0

    def edit(x: Tensor, **_: object) -> Tensor:
        nonlocal done  # examples come in table order, some at a time
        x = x.clone()
        here = view.at_answer(hook, x)
        here.copy_(values[done : done + len(here)])
        done += len(here)
        return x

    return hook, edit


def recorded(view: View, hook: str) -> Float64[Tensor, "n ..."]:
    """The activation of a hook at the answer position for every example; all logits under "logits".

    Raises:
        NotApplicable: the network does not use this hook.
    """
    if view.blocks and hook == view.blocks[-1].name("mlp.hook_post"):
        return view.neurons
    if len(view.task.reads.answers) > 1:
        return _of_answers(view.whole, hook)[view.which]
    stream = _stream(view)
    activations = stream if hook in stream else view.activations([hook])
    if hook not in activations:
        raise NotApplicable(f"the network does not use {hook}")
    return activations[hook]


@once_per_view
def _of_answers(whole: View, hook: str) -> Float64[Tensor, "answer n ..."]:
    """The same at every answer of the task, from one pass."""
    if hook == "logits":
        return whole.logits_with([]).movedim(1, 0)
    seen: list[Tensor] = []

    def see(x: Tensor, hook: object) -> Tensor:
        seen.append(torch.stack([one.at_answer(name, x).cpu() for one in each]))
        return x

    each, name = [whole.at(answer) for answer in whole.answers], hook
    whole.logits_with([(hook, see)])
    if not seen:
        raise NotApplicable(f"the network does not use {hook}")
    return torch.cat(seen, dim=1)


@once_per_view
def _stream(view: View) -> dict[str, Float64[Tensor, "n ..."]]:
    """The logits of all classes, and the hooks that the measures of this package read, from one pass."""
    wanted = (
        "hook_resid_pre", "attn.hook_attn_scores", "attn.hook_z", "hook_attn_out", "hook_resid_mid",
        "mlp.hook_pre", "hook_mlp_out",
    )  # fmt: skip
    names = [name for block in view.blocks for hook in wanted if not view.elsewhere(name := block.name(hook))]
    return view.activations([name for name in names if name in view.hooks])


def logits_after(view: View, changes: Sequence[Change]) -> Float64[Tensor, "n classes"]:
    """Logits of every example, of every class, with the changes made."""
    if len(changes) == 1 and {name for name, _ in changes[0].added} <= _short(view):
        (change,) = changes
        here, value, entries = recorded(view, change.read), change.value, None
        if change.where is not None and change.rotation is None:
            entries = change.where.expand(here.shape[1:]).flatten().nonzero().flatten()
        logits = torch.empty_like(recorded(view, "logits"))
        for first in range(0, len(here), _TOGETHER):
            rows = slice(first, first + _TOGETHER)
            put_in = value if len(value) == 1 else value[rows]
            if entries is None:
                difference = change.difference(here[rows], put_in).flatten(1)
            else:
                difference = put_in.flatten(1)[:, entries] - here[rows].flatten(1)[:, entries]
            added = {name: difference if sign == 1 else -difference for name, sign in change.added}
            logits[rows] = _tail(view, added, rows, entries)
        return logits
    edits = [edit for change in changes for edit in change.edits(view)]
    return view.activations([], edits, everywhere=False)["logits"]


def has_shortcut(view: View, hook: str) -> bool:
    """Whether `logits_after` a change at this hook needs no pass of the network."""
    return hook in _short(view)


@once_per_view
def _short(view: View) -> frozenset[str]:
    """The hooks of the last layer from which `_tail` gives the logits: all or none, found out on a few
    examples with random additions."""
    layer, points = _last_layer(view), view.hooks
    # A user's hook may look at the whole batch: then examples cannot be run by the handful.
    if view.has_hooks_of_a_user or layer + "mlp.W_in" not in view.weights:
        return frozenset()
    rows, generator = torch.arange(min(PROBED, view.task.n_inputs)), torch.Generator().manual_seed(0)
    hooks = {"mlp.hook_post", "hook_mlp_out"}
    if layer + "attn.W_O" in view.weights:
        hooks |= {"attn.hook_z", "hook_attn_out", "hook_resid_mid", "hook_resid_post"}
    hooks = {hook for hook in hooks if layer + hook in points}  # a network of a user's own may lack some
    for name in sorted(layer + hook for hook in hooks):
        here = recorded(view, layer + "hook_resid_mid" if name.endswith("hook_resid_post") else name)[rows]
        added = torch.randn(here.shape, generator=generator, dtype=here.dtype) * (1 + here.abs().mean())

        def add(x: Tensor, hook: object, name: str = name, added: Tensor = added) -> Tensor:
            x = x.clone()
            view.at_answer(name, x).add_(added.to(x.device))
            return x

        true = view.activations([], edits=[(name, add)], rows=rows, everywhere=False)["logits"]
        short = _tail(view, {name: added.flatten(1)}, slice(len(rows)))
        if not torch.allclose(short, true, rtol=0, atol=1e-9 * float(true.abs().max())):
            return frozenset()
    return frozenset(layer + hook for hook in hooks)


def _last_layer(view: View) -> str:
    """What the names of its hooks and parameters begin with."""
    return view.blocks[-1].name("") if view.blocks else "blocks.-1."


@once_per_view
def _readers(view: View) -> dict[str, Float64[Tensor, "entries width"]]:
    """Of the last layer: `attn.W_O` and `mlp.W_in`, those that there are, and what the neurons add to the
    logits. A multilayer perceptron is a layer without attention, and may have no W_out."""
    layer, unembed = _last_layer(view), view.W_U
    of = {name: view.weights[layer + name].cpu() for name in _READ if layer + name in view.weights}
    if (w_out := of.pop("mlp.W_out", None)) is not None:
        unembed = w_out @ unembed
    return {name: matrix.flatten(0, -2) for name, matrix in of.items()} | {"neurons": unembed}


def _tail(
    view: View,
    added: dict[str, Float64[Tensor, "rows entries"]],
    rows: slice,
    entries: Int[Tensor, "entries"] | None = None,
) -> Float64[Tensor, "rows classes"]:
    """Logits with something added at hooks of the last layer, where nothing is normalised, and rectified
    linear units follow what comes before neurons.

    A tenth of the work of a pass: one position, one layer, nothing before the change. What is added is flat,
    and given for some entries alone where they are named.
    """
    layer, readers, unembed = _last_layer(view), _readers(view), view.W_U
    logits, to_stream, to_mlp = recorded(view, "logits")[rows], None, None
    for name, x in added.items():
        hook = name.removeprefix(layer)
        if hook == "mlp.hook_post":
            logits = torch.addmm(
                logits, x, readers["neurons"] if entries is None else readers["neurons"][entries]
            )
            continue
        if hook == "attn.hook_z":
            x = x @ (readers["attn.W_O"] if entries is None else readers["attn.W_O"][entries])
        elif entries is not None:
            x = x.new_zeros(len(x), len(unembed)).index_copy_(1, entries, x)
        to_stream = x if to_stream is None else to_stream + x
        if hook in ("attn.hook_z", "hook_attn_out", "hook_resid_mid"):
            to_mlp = x if to_mlp is None else to_mlp + x
    if to_mlp is not None:
        neurons = torch.addmm(
            recorded(view, layer + "mlp.hook_pre")[rows], to_mlp, readers["mlp.W_in"]
        ).relu_()
        logits = torch.addmm(logits, neurons.sub_(view.neurons[rows]), readers["neurons"])
    return logits if to_stream is None else torch.addmm(logits, to_stream, unembed)
