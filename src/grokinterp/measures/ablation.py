"""What a network loses without a part of it, and what it loses when as much is done to it at random.

A part is ablated at the answer position alone, in the network itself: everything that is computed from it
there changes, what other positions compute stays. Its activation is replaced by zero, by its mean over all
examples, or by that of another example. What is in no layer that reads an answer, such as in an encoder, is
ablated at all its positions.

Every ablation is repeated on matched controls, because to take out most of a network always hurts:

    neurons, entries of a hook    as many random ones of the same layer or hook
    a head                        each other head of its layer
    frequencies                   as many random functions of the answer
    all else, and a lone head     the change that the ablation makes, turned by a random rotation: as large on
                                  every example and of the same rank, in other directions

What is drawn for a seed does not depend on how the network is written down: a rotation is drawn among the
directions that the activation has and others read, ordered by how much there is in them, and neurons in the
order of what they move. Else the controls of one network in two bases of its residual stream would differ as
those of two seeds do. Entries of any other hook are those of the basis that it is written in, and so are its
controls.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from ..asked import COUNT, NAME, SEED, asks, got
from ..errors import NotApplicable, UsageError, nearest
from ..shown import Found, Rows, in_words
from ..view import View
from .base import once_per_view
from .interventions import Change, logits_after, recorded
from .neurons import by_contribution
from .sites import AT_NO_HOOK, marked, sites

HOWS = ("zero", "mean", "resample")
_OF_STREAM = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
DRAWS = 10
"""Random controls."""


@dataclass(frozen=True)
class Outcome:
    """Mean loss in nats, and accuracy, of "train" and "test" where they are known, and of "all"."""

    loss: dict[str, float]
    accuracy: dict[str, float]


@dataclass(frozen=True, repr=False)
class Ablation(Found):
    """What an ablation did.

    Attributes:
        what, at, how: as asked for: what was ablated, and by what it was replaced.
        before: the network as it is.
        after: without the part.
        control: what the controls are, in words.
        controls: the outcome of each.
    """

    what: str
    at: Any
    how: str
    before: Outcome
    after: Outcome
    control: str
    controls: list[Outcome]

    def _in_a_line(self) -> str:
        at = "" if self.at is None else f" {in_words(self.at)}"
        part = "test" if "test" in self.after.loss else "all"
        loss = f"{self.before.loss[part]:.3g} → {self.after.loss[part]:.3g} nats"
        return f"of {self.what}{' at' * bool(at)}{at} ({self.how}): {part} loss {loss}"

    def _as_rows(self) -> Rows:
        rows: list[tuple[str, object]] = []
        for part in self.after.loss:
            of = [(each.loss[part], each.accuracy[part]) for each in (self.before, self.after)]
            said = " → ".join(f"{loss:.3g} nats, {100 * right:.1f} % right" for loss, right in of)
            rows.append((part, said))
            if self.controls:
                mean, spread = self.control_loss(part)
                rows.append((f"{part}, controls", f"{mean:.3g} ± {spread:.2g} nats ({self.control})"))
        return rows

    def control_loss(self, part: str = "all") -> tuple[float, float]:
        """Mean and standard deviation of the loss of the controls.

        Raises:
            NotApplicable: there are none.
        """
        if not self.controls:
            raise NotApplicable("this ablation has no controls")
        losses = torch.tensor([control.loss[part] for control in self.controls], dtype=torch.float64)
        return float(losses.mean()), float(losses.std(unbiased=False))


@asks("gi.ablate", what=NAME, draws=COUNT, seed=SEED)
def ablate(
    view: View, what: str, at: Any = None, how: str = "mean", *, draws: int = DRAWS, seed: int = 0
) -> Ablation:
    """What the network loses without a part of it, beside matched random controls.

    Args:
        what: one of
            "neurons"         MLP neurons of the last layer; `at` lists them
            "head"            an attention head; `at` is (layer, head). A layer is a number, or what it is
                              called: ("decoder L0 cross", 1)
            "mlp"             the output of the MLP of layer `at`, by default of every layer
            "attention"       the output of all heads of layer `at`, by default of every layer
            "skip.attention"  the stream that passes by the attention of layer `at` (by default the last), for
                              all that reads it
            "skip.into_mlp"   the same for the MLP alone; the stream itself keeps it
            "skip.mlp"        the stream that passes by the MLP of layer `at` (by default the last): in the
                              last layer, what the unembedding reads besides the MLP's output
            "frequencies"     the directions cos w_k(c*) and sin w_k(c*) of the logits over the table, c* the
                              right answer; `at` lists the k. They are waves about zero: `how` changes nothing
            any other         a TransformerLens hook by name; `at` lists entries of its last axis, by default
                              all
        at: see there; a number, or a list, array or tensor of them.
        how: "zero", "mean" (over all examples) or "resample" (the value of another example: all are
            shuffled).
        draws: random controls; for a head there are as many as other heads.
        seed: of the controls and the shuffling.

    Raises:
        UsageError: there is no such part of networks, or `at` does not fit it.
        NotApplicable: this network has no such part.
    """
    if not (isinstance(how, str) and how in HOWS):
        raise UsageError(f"how: unknown way {got(how)}{nearest(str(how), HOWS)}")
    generator = torch.Generator().manual_seed(operator.index(seed))
    if what in AT_NO_HOOK:
        return AT_NO_HOOK[what](view, at, how, draws, generator)
    changes = _changes(view, what, at, how, generator)
    control, drawn = _controls(view, what, changes, draws, generator)
    after, *others = (outcome(view, logits_after(view, made)) for made in (changes, *drawn))
    return Ablation(what, at, how, _before(view), after, control, others)


def _changes(view: View, what: str, at: Any, how: str, generator: torch.Generator) -> list[Change]:
    changes = []
    for read, added, where in sites(view, what, at):
        here = recorded(view, read)
        if how == "resample":
            value = here[torch.randperm(len(here), generator=generator)]
        else:
            value = here.mean(0, keepdim=True) if how == "mean" else torch.zeros_like(here[:1])
        changes.append(Change(read, added, value, where))
    return changes


def _controls(
    view: View, what: str, changes: list[Change], draws: int, generator: torch.Generator
) -> tuple[str, Iterator[list[Change]]]:
    where = changes[0].where
    if where is None or bool(where.all()):
        frames = [_frame(view, change.read) for change in changes] if draws else []
        return "the same change, turned by a random rotation", (
            [
                dataclasses.replace(change, rotation=frame @ random_rotation(len(frame), generator) @ frame.T)
                for change, frame in zip(changes, frames, strict=True)
            ]
            for _ in range(draws)
        )
    (change,) = changes
    if what == "head":
        others = (~where.flatten()).nonzero().flatten().tolist()
        return "each other head of the layer", (
            [dataclasses.replace(change, where=marked([k], len(where))[:, None])] for k in others
        )
    count, size = int(where.sum()), len(where)
    is_last = bool(view.blocks) and change.read == view.blocks[-1].name("mlp.hook_post")
    order = by_contribution(view) if is_last else torch.arange(size)
    draw = (order[torch.randperm(size, generator=generator)[:count]].tolist() for _ in range(draws))
    return f"{count} random ones of {size}", (
        [dataclasses.replace(change, where=marked(some, size))] for some in draw
    )


def _frame(view: View, hook: str) -> Float64[Tensor, "d d"]:
    """An orthonormal basis, in columns, that turns with the network: of what the activation at a hook holds
    and, where that is added to the residual stream, of what the unembedding and each neuron read there. Each
    direction points to where its largest entry is positive.
    """
    parts = [recorded(view, hook).flatten(1)]
    if hook.rpartition(".")[2] in _OF_STREAM and not view.elsewhere(hook):
        readout = view.W_U[:, : view.task.n_answers]
        parts.append((readout - readout.mean(1, keepdim=True)).T)
        if view.heads:  # without, neurons do not read what they write
            readers = [
                name for name in view.weights if name.endswith("mlp.W_in") and not view.elsewhere(name)
            ]
            read = [view.weights[name].cpu() for name in readers]
            parts += [torch.nn.functional.normalize(columns.T) for columns in read]
    seen = torch.cat([part / part.norm().clamp_min(torch.finfo(part.dtype).tiny) for part in parts])
    directions = torch.linalg.eigh(seen.T @ seen).eigenvectors
    along = seen @ directions
    largest = along.gather(0, along.abs().argmax(0, keepdim=True))
    return directions * torch.where(largest < 0, -1.0, 1.0)


def random_rotation(size: int, generator: torch.Generator) -> Float64[Tensor, "d d"]:
    """A random orthogonal matrix, uniform over all of them."""
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


@once_per_view
def _before(view: View) -> Outcome:
    return outcome(view, recorded(view, "logits"))


def outcome(
    view: View, logits: Float64[Tensor, "rows classes"], rows: Int[Tensor, "rows"] | None = None
) -> Outcome:
    """Loss and accuracy of these logits, of all examples or of some rows of the table alone."""
    each = view.loss(logits, rows), view.correct(logits, rows).double()
    masks = {part: view.rows(part) if rows is None else view.rows(part)[rows] for part in view.parts}
    masks = {part: mask for part, mask in masks.items() if mask.any()}
    return Outcome(*({part: float(values[mask].mean()) for part, mask in masks.items()} for values in each))
