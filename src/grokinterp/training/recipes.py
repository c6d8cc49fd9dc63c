"""What is said to make grokking come sooner, beside any optimiser: what is done to gradients before it gets
them, and to weights after it. Losses and temperatures are in loss.py.

    clipped gradient -> Grokfast -> orthogonal -> the optimiser -> NormClamp

Weights of several networks at once (`stacked`) have the networks as their first axis, and each is treated as
if it were alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from .config import TrainingConfig

_ROUNDING = 4
"""So many units in the last place of a gradient are no direction that is left of it."""


class Grokfast:
    """Adds what is slow in the gradient to it (Lee et al. 2024, arXiv 2405.20233, algorithms 1 and 2).

    "ema": lamb times m, where m = alpha m + (1 - alpha) gradient, and the first gradient itself at first.
    "ma": lamb times the mean of the last `window` gradients, this one included, and nothing before there are
    so many (in their code: `warmup`). Optimisers that are no function of the gradient's scale, such as Adam,
    see alone that slow directions weigh more.

    Their code does not save what is kept of gradients; here it is the `state`, so that a run that is begun
    again goes on to the same bytes.
    """

    def __init__(self, weights: Mapping[str, Tensor], config: TrainingConfig, *, stacked: bool) -> None:
        self._at = int(stacked)  # the axis of the last gradients, in what is kept of them
        self._ema = config.grokfast == "ema"
        self._alpha = config.grokfast_setting("alpha")
        self._lamb = config.grokfast_setting("lamb")
        self._window = int(config.grokfast_setting("window")) if not self._ema else 0
        self.state = {of(name): {self._key: self._nothing(weight)} for name, weight in weights.items()}

    @property
    def _key(self) -> str:
        return "mean" if self._ema else "last"

    def _nothing(self, weight: Tensor) -> Tensor:
        if self._ema:
            return torch.zeros_like(weight)
        shape = list(weight.shape)
        return weight.new_zeros([*shape[: self._at], self._window, *shape[self._at :]])

    def amplify(self, step: int, gradients: Mapping[str, Tensor]) -> None:
        """Changes the gradients of update number `step`, from 1."""
        for name, gradient in gradients.items():
            kept = self.state[of(name)][self._key]
            if self._ema:
                alpha = self._alpha if step > 1 else 0.0
                gradient.add_(kept.mul_(alpha).add_(gradient, alpha=1 - alpha), alpha=self._lamb)
            else:
                kept.select(self._at, (step - 1) % self._window).copy_(gradient)
                if step >= self._window:
                    gradient.add_(kept.mean(self._at), alpha=self._lamb)


def of(name: str) -> str:
    """The name under which the state of a training has what `Grokfast` keeps of a weight."""
    return f"grokfast/{name}"


def orthogonal(
    weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], *, stacked: bool = False
) -> None:
    """Takes from the gradient of each parameter what points along the parameter, and makes the rest as long
    as the gradient was: ⊥Grad (Prieto et al. 2025, arXiv 2501.04697; the length as in their code).

    It is the gradient that is orthogonal, as there, not the update: what Adam makes of it, and weight decay,
    can still change the norm. A parameter is a tensor, of all heads together for attention. Where nothing but
    rounding would be left, as of a parameter of one number, the gradient is 0: their code scales that up.
    """
    for name, gradient in gradients.items():
        w, g = (x.flatten(1) if stacked else x.flatten()[None] for x in (weights[name], gradient))
        along = (w * g).sum(1, keepdim=True) / w.square().sum(1, keepdim=True).clamp(min=1e-30)
        left = g - along * w
        before, after = (x.norm(dim=1, keepdim=True) for x in (g, left))
        some = after > _ROUNDING * torch.finfo(g.dtype).eps * before
        gradient.copy_((left * torch.where(some, before / after, 0.0)).view_as(gradient))


class NormClamp:
    """Holds the norm of all weights together at `norm_clamp` times what it was at first, by one factor for
    all of them (Liu et al. 2022, Omnigrok, arXiv 2210.01117, figure 7).

    There the initial weights are multiplied by it as well; here that is `model.init_scale`, so that
    `init_scale = x` with `norm_clamp = 1` is theirs. They train without weight decay, of which only the
    direction would count.
    """

    def __init__(self, weights: Mapping[str, Tensor], config: TrainingConfig, *, stacked: bool) -> None:
        assert config.norm_clamp is not None
        self._weights, self._stacked = weights, stacked
        self.state = {"norm": {"kept": self._norm() * config.norm_clamp}}

    def _norm(self) -> Float[Tensor, "*network 1"]:
        rows = (weight.detach().flatten(int(self._stacked)) for weight in self._weights.values())
        return torch.stack([row.norm(dim=-1, keepdim=True) for row in rows]).norm(dim=0)

    def rescale(self) -> None:
        """Brings the weights back to their norm."""
        factor = self.state["norm"]["kept"] / self._norm()
        for weight in self._weights.values():
            weight.mul_(factor.reshape(factor.shape[:-1] + (1,) * (weight.ndim - factor.ndim + 1)))
