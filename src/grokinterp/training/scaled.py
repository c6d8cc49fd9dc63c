"""Updates that are computed otherwise than an evaluation. At sizes that one pass, or one processor, does not
hold: in parts, by several processes, with matrix products in bfloat16; and with dropout.

    parts       the examples of an update one part after the other, their gradients added (gradient
                accumulation): the memory of one part
    processes   each takes its share of every batch, and torch's DistributedDataParallel averages the
                gradients while they are computed; all processes draw the same batches, by seed and number
    bfloat16    torch's autocast; weights, moments, losses and sums over examples stay float32
    dropout     drawn from the seed of the run, the number of the update and that of the first example of a
                piece, so that nothing has to be kept to go on with the same draws

Sums run in another order than in one piece, so the numbers are those of it up to rounding, and the same
bytes again for the same configuration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from .config import TrainConfig
from .examples import Evaluation, Examples, Group, Values, asked, cut, joined, of_each_answer


def scaled(config: TrainConfig) -> type[Examples] | partial[ScaledExamples] | None:
    """What learns as the configuration asks; None where it asks for none of these."""
    parts, processes = config.training.accumulate, config.processes
    narrow, drops = config.training.dtype == "bfloat16", config.model.drops
    if parts == processes == 1 and not narrow and not drops:
        return None
    sizes = partial(ScaledExamples, parts=parts, processes=processes, narrow=narrow)
    return partial(sizes, drops=drops, seed=config.seed)


class ScaledExamples(Examples):
    """Examples that are learned in parts, as one of several processes, in bfloat16, or with dropout."""

    def __init__(
        self,
        *known: Any,
        parts: int = 1,
        processes: int = 1,
        narrow: bool = False,
        drops: float = 0.0,
        seed: int = 0,
        **known_by_name: Any,
    ) -> None:
        super().__init__(*known, **known_by_name)
        self._parts, self._processes, self._narrow = parts, processes, narrow
        self._drops, self._seed, self._update = drops, seed, 0

    def evaluation(self, *, gradients: bool) -> Evaluation:
        """Losses and guesses of all examples; gradients are left to the update, which every process makes."""
        train, test = self._seen(self._train, self._test)
        return Evaluation(train, test, None)

    def gradients(self, rows: Int[Tensor, "m"] | None, number: int = 0) -> dict[str, Tensor]:
        group = self._train if rows is None else self._group(rows)
        if self._drops:
            *examples, targets = group
            self._update = number
            group = (*examples, torch.arange(len(targets), device=targets.device), targets)
        return self._learned(group)[1]

    def _seen(self, *groups: Group) -> list[Values]:
        size = max(1, len(self._train[0]) // (self._parts * self._processes), self._piece)
        seen = super()._seen
        return [joined([seen(some)[0] for some in cut(each, -(-len(each[0]) // size))]) for each in groups]

    def _learned(self, group: Group, *others: Group) -> tuple[list[Values], dict[str, Tensor]]:
        total: dict[str, Tensor] = {}
        own, n = self._own(group), max(1, asked(group[-1]))
        if self._processes > 1:
            return [], self._learned_together(own, n)
        for part in cut(own, self._parts):
            for name, gradient in super()._learned(part)[1].items():
                gradient.mul_(asked(part[-1]) / n)
                total[name] = total[name].add_(gradient) if name in total else gradient
        return [], total

    def _own(self, group: Group) -> Group:
        """The share of this process."""
        if self._processes == 1:
            return group
        return cut(group, self._processes)[torch.distributed.get_rank()]

    def _learned_together(self, own: Group, n: int) -> dict[str, Tensor]:
        """The gradient of the mean loss of n answers, of which this process computes its own."""
        network = self._network
        network.zero_grad(set_to_none=True)
        parts = cut(own, self._parts)
        for i, (*examples, targets) in enumerate(parts):
            last = i == len(parts) - 1
            waiting: AbstractContextManager[Any] = nullcontext() if last else network.no_sync()
            with torch.enable_grad(), waiting:
                logits = network(*examples)
                # Gradients are averaged over the processes.
                _, by_logit = self._loss_and_gradient(
                    *of_each_answer(logits.detach(), targets), self._processes / n
                )
                logits.backward(by_logit.view_as(logits).masked_fill(targets[..., None] < 0, 0))
        return {name: network.module.by_name[name].grad.contiguous() for name in self._learning}

    @cached_property
    def _network(self) -> Any:
        """The network as DistributedDataParallel takes it, with the weights that are trained."""
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(_Network(self._logits_of, self._weights, self._learning))

    def _logits(
        self, inputs: Shaped[Tensor, "n *example"], numbers: Int[Tensor, "n"] | None = None
    ) -> Float[Tensor, "n *answer classes"]:
        return self._logits_of(self._weights, inputs, numbers)

    def _logits_of(
        self,
        weights: dict[str, Tensor],
        inputs: Shaped[Tensor, "n *example"],
        numbers: Int[Tensor, "n"] | None = None,
    ) -> Float[Tensor, "n *answer classes"]:
        """The logits; with the numbers of the examples in their update those of a network that drops."""
        weights = self._config.tie(weights)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._narrow):
            if numbers is None or not len(numbers):
                logits = self._config.logits(weights, inputs, self._reads)
            else:
                drop = _Drop(self._drops, inputs.device, self._seed, self._update, int(numbers[0]))
                logits = self._config.logits_dropped(weights, inputs, self._reads, drop)
        return logits.float() if self._narrow else logits


class _Drop:
    """Sets a share of numbers to 0 and divides the others by what is left of 1; the numbers `drawn_for` say
    which."""

    def __init__(self, share: float, device: torch.device, *drawn_for: int) -> None:
        self._kept = 1 - share
        number = int.from_bytes(hashlib.sha256(repr(drawn_for).encode()).digest()[:4], "big")
        self._generator = torch.Generator(device).manual_seed(number)

    def __call__(self, x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        kept = torch.empty_like(x, requires_grad=False, memory_format=torch.contiguous_format)
        return x * kept.bernoulli_(self._kept, generator=self._generator).div_(self._kept)


class _Network(torch.nn.Module):
    """A function of weights as a module. Its parameters are the learning weights themselves."""

    def __init__(self, logits: Any, weights: dict[str, Tensor], learning: Collection[str]) -> None:
        super().__init__()
        self._logits_of = logits
        self._fixed = {name: weight for name, weight in weights.items() if name not in learning}
        self.by_name = {name: torch.nn.Parameter(weights[name].detach()) for name in learning}
        self._ordered = torch.nn.ParameterList(self.by_name.values())

    def forward(self, *examples: Tensor) -> Tensor:
        logits: Tensor = self._logits_of({**self._fixed, **self.by_name}, *examples)
        # A weight on which no logit depends has a gradient of 0, for which the others would wait.
        nothing = sum(weight.flatten()[0] * 0 for weight in self.by_name.values())
        return logits + nothing
