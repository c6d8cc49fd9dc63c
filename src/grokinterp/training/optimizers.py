"""torch's optimisers over named weights, with a state that is flat tensors: no pickle is needed to save or
restore it.

Adam, AdamW and SGD are called as torch's functions: its classes take a second and a half to import their
compiler, and for networks this small longer to find out what to do than to do it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from ..errors import ConfigError
from .config import TrainingConfig
from .recipes import Grokfast, NormClamp, of, orthogonal

_EPS = 1e-8


@runtime_checkable
class _Kept(Protocol):
    """What a training remembers from one update to the next.

    Attributes:
        state: moments and counters by the name of the weight, or of what they are of.
    """

    state: dict[str, dict[str, Tensor]]


class _Part(_Kept, Protocol):
    """An optimiser of some of the weights."""

    def step(self, gradients: Mapping[str, Tensor], lr: float) -> None: ...


class _Adam:
    def __init__(self, weights: Mapping[str, Tensor], config: TrainingConfig, *, decoupled: bool) -> None:
        self._weights = weights
        function = adamw if decoupled else adam
        fused = all(weight.device.type in ("cpu", "cuda") for weight in weights.values())
        beta1, beta2 = config.betas
        self._step = partial(
            function, fused=fused, foreach=False if fused else None, amsgrad=False, beta1=beta1, beta2=beta2,
            weight_decay=config.weight_decay, eps=_EPS if config.eps is None else config.eps, maximize=False,
        )  # fmt: skip
        self.state = {
            name: {
                "step": torch.zeros((), dtype=torch.float32, device=weight.device if fused else "cpu"),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }
            for name, weight in weights.items()
        }

    def step(self, gradients: Mapping[str, Tensor], lr: float) -> None:
        first, second, counts = (
            [self.state[name][key] for name in self._weights] for key in ("exp_avg", "exp_avg_sq", "step")
        )
        wanted = [gradients[name] for name in self._weights]
        self._step(list(self._weights.values()), wanted, first, second, [], counts, lr=lr)


class _SGD:
    def __init__(self, weights: Mapping[str, Tensor], config: TrainingConfig) -> None:
        self._weights, self._config = weights, config
        self.state: dict[str, dict[str, Tensor]] = {}

    def step(self, gradients: Mapping[str, Tensor], lr: float) -> None:
        buffers = [self.state.get(name, {}).get("momentum_buffer") for name in self._weights]
        momentum = self._config.betas[0]
        wanted = [gradients[name] for name in self._weights]
        sgd(
            list(self._weights.values()), wanted, buffers, foreach=False,
            weight_decay=self._config.weight_decay, momentum=momentum, lr=lr,
            dampening=0, nesterov=False, maximize=False,
        )  # fmt: skip
        if momentum:
            self.state = {
                name: {"momentum_buffer": buffer}
                for name, buffer in zip(self._weights, buffers, strict=True)
                if buffer is not None
            }


class _Muon:
    """torch's Muon, which takes matrices alone (attention weights are stacks of matrices)."""

    def __init__(self, weights: Mapping[str, Tensor], config: TrainingConfig) -> None:
        if not hasattr(torch.optim, "Muon"):
            needed = f"muon needs torch 2.9 or newer, this is {torch.__version__}"
            raise ConfigError(f"training.optimizer: {needed}: choose adamw")
        self._weights = weights
        self._optimizer = torch.optim.Muon(
            list(weights.values()), config.lr, weight_decay=config.weight_decay, momentum=config.betas[0]
        )

    @property
    def state(self) -> dict[str, dict[str, Tensor]]:
        return {
            name: self._optimizer.state[weight]
            for name, weight in self._weights.items()
            if weight in self._optimizer.state
        }

    @state.setter
    def state(self, state: dict[str, dict[str, Tensor]]) -> None:
        for name, entries in state.items():
            self._optimizer.state[self._weights[name]] = entries

    def step(self, gradients: Mapping[str, Tensor], lr: float) -> None:
        for name, weight in self._weights.items():
            weight.grad = gradients[name]
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Of update number `step`, from 1: lr i / warmup of update i < warmup, then by `decay`, x being the share
    done of the updates from there to the last: lr, lr (1 - x), or lr (1 + cos pi x) / 2."""
    if step < config.warmup:
        return config.lr * (step / config.warmup)
    if config.decay == "none":
        return config.lr
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    if config.decay == "linear":
        return config.lr * (1 - done)
    return config.lr * 0.5 * (1 + math.cos(math.pi * done))


class Optimiser:
    """One or two optimisers that together update every named weight, and what is done before and after them.

    With `stacked`, weights have the networks that they belong to as their first axis: what is not elementwise
    is done for each.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], config: TrainingConfig, *, stacked: bool = False
    ) -> None:
        self._stacked = stacked
        self._devices = {key: weight.device for name, weight in weights.items() for key in (name, of(name))}
        self._weights = weights
        self._config, self._clip = config, config.clip
        self._parts: list[tuple[list[str], _Part]] = []
        if config.optimizer == "muon":
            matrices = {name: weight for name, weight in weights.items() if weight.ndim == 2}
            self._parts.append((list(matrices), _Muon(matrices, config)))
            weights = {name: weight for name, weight in weights.items() if weight.ndim != 2}
        if config.optimizer == "sgd":
            self._parts.append((list(weights), _SGD(weights, config)))
        elif weights:
            self._parts.append((list(weights), _Adam(weights, config, decoupled=config.optimizer != "adam")))
        self._grokfast = Grokfast(self._weights, config, stacked=stacked) if config.grokfast else None
        self._clamp = NormClamp(self._weights, config, stacked=stacked) if config.norm_clamp else None

    @property
    def _kept(self) -> list[tuple[Collection[str], _Kept]]:
        """Whatever has a state, with the names in it."""
        others = [(kept.state.keys(), kept) for kept in (self._grokfast, self._clamp) if kept is not None]
        return [*self._parts, *others]

    @torch.no_grad()
    def update(self, step: int, gradients: Mapping[str, Tensor]) -> Float[Tensor, "..."]:
        """Applies update number `step` (from 1) with the gradient of every weight; returns their global norm
        before clipping, of each network."""
        norm_of = torch.linalg.vector_norm
        if self._stacked:
            norms = [norm_of(gradient.flatten(1), dim=1) for gradient in gradients.values()]
            norm = torch.stack(norms).norm(dim=0)
        else:
            norm = norm_of(torch.stack(list(map(norm_of, gradients.values()))))
        if self._clip is not None:
            scale = (self._clip / (norm + 1e-6)).clamp(max=1.0)
            for gradient in gradients.values():
                gradient.mul_(scale.reshape(scale.shape + (1,) * (gradient.ndim - scale.ndim)))
        if self._grokfast is not None:
            self._grokfast.amplify(step, gradients)
        if self._config.orthogonal_gradient:
            orthogonal(self._weights, gradients, stacked=self._stacked)
        lr = learning_rate(self._config, step)
        for _, part in self._parts:
            part.step(gradients, lr)
        if self._clamp is not None:
            self._clamp.rescale()
        return norm

    def state(self) -> dict[str, Tensor]:
        """Copies of all moments and counters, as `weight name/state name`."""
        return {
            f"{name}/{key}": torch.as_tensor(value).detach().clone()
            for _, kept in self._kept
            for name, entries in kept.state.items()
            for key, value in entries.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state` returned."""
        for names, kept in self._kept:
            loaded: dict[str, dict[str, Tensor]] = {name: {} for name in names}
            for path, value in state.items():
                name, _, key = path.rpartition("/")
                if name in loaded:
                    before = kept.state.get(name, {}).get(key)
                    device = self._devices[name] if before is None else before.device
                    loaded[name][key] = value.clone().to(device)
            if any(loaded.values()):
                kept.state = loaded
