"""Where a network is trained, and whether numbers can be trusted there.

Accelerators have computed wrong numbers without a word: with torch 2.8, F.linear of tensors that are not
contiguous on MPS (pytorch issue 161640, TransformerLens PR 1271). A probe of some product does not find that:
before its first step the network at hand computes a loss and a gradient there, of some of its own examples.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ConfigError
from ..models import NetworkConfig, Weights
from ..tasks import Task
from .examples import Examples

_SOME = 64
"""Examples that are computed on both."""
_SAME = 0.01
"""How far losses or a gradient may lie apart, of their norm: what float32 rounds is under 1e-5, a neuron that
rounding has switched on for one example about 1e-3, and a fault about 1."""
_NOISE = 1e-3
"""What is this much smaller than the whole gradient is compared with the whole."""


def resolve_device(name: str) -> torch.device:
    """The torch device of that name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        what = "device: cuda was asked for and torch finds no CUDA device"
        raise ConfigError(f"{what}: use device = 'cpu' or 'auto'")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: mps was asked for and torch finds none: use device = 'cpu' or 'auto'")
    return torch.device(name)


def is_accelerator(device: torch.device) -> bool:
    """Whether it is anything but the CPU, against which everything is tested."""
    return device.type != "cpu"


def refuse_other_numbers(
    device: torch.device,
    model: NetworkConfig,
    loss: str,
    task: Task,
    weights: Weights,
    rows: Int[Tensor, "m"],
    labels: Int[Tensor, "n *answer"] | None = None,
) -> None:
    """Computes the losses of some examples and their gradient on a device and on the CPU.

    Args:
        weights: those of the network, wherever they are.
        rows: the examples that it is trained on; where there are none, the first of the sample are taken.

    Raises:
        ConfigError: they are not the same within 1 % of their norm; the message says what differs most.
    """
    some = (rows if len(rows) else torch.arange(task.n_inputs))[:_SOME]
    there = _computed(device, model, loss, task, weights, some, labels)
    here = _computed(torch.device("cpu"), model, loss, task, weights, some, labels)
    whole = float(torch.stack([g.norm() for name, g in here.items() if name != _LOSSES]).norm())
    apart = {
        name: float((there[name] - expected).norm())
        / max(float(expected.norm()), 0.0 if name == _LOSSES else _NOISE * whole, 1e-30)
        for name, expected in here.items()
    }
    wrong = {name: share for name, share in apart.items() if not share <= _SAME}
    if wrong:
        name, share = max(wrong.items(), key=lambda one: (one[1] != one[1], one[1]))
        what = name if name == _LOSSES else f"the gradient of {name}"
        raise ConfigError(
            f"device: {device.type} gives other numbers than the CPU for this network: {what} of {len(some)} "
            f"examples is off by {share:.2g} of its norm, and {_SAME:g} is allowed; use device = 'cpu' "
            f"(torch {torch.__version__} has such a fault here)"
        )


_LOSSES = "the loss"


def _computed(
    device: torch.device,
    model: NetworkConfig,
    loss: str,
    task: Task,
    weights: Weights,
    rows: Int[Tensor, "m"],
    labels: Int[Tensor, "n *answer"] | None,
) -> dict[str, Float[Tensor, "..."]]:
    """The losses, and the gradient of every weight that is trained, by the plain forward pass."""
    mine = {name: weight.detach().to(device, copy=True) for name, weight in weights.items()}
    learning = {name: weight.requires_grad_() for name, weight in mine.items() if model.trains(name)}
    at = rows.to(device)
    examples = Examples(mine, learning, model, loss, task, at, at[:0], labels)
    with torch.no_grad():
        found = examples.evaluation(gradients=True)
    assert found.gradients is not None
    of_all = {_LOSSES: found.train.losses, **found.gradients}
    return {name: values.detach().cpu().double() for name, values in of_all.items()}
