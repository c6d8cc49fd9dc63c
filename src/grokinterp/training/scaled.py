"""Training at sizes that one pass, or one processor, does not hold: an update computed in parts, by several
processes, with matrix products in bfloat16.

    parts       the examples of an update one part after the other, their gradients added (gradient
                accumulation): the memory of one part
    processes   each takes its share of every batch, and torch's DistributedDataParallel averages the
                gradients while they are computed; all processes draw the same batches, by seed and number
    bfloat16    torch's autocast; weights, moments, losses and sums over examples stay float32

Sums run in another order than in one piece, so the numbers are those of it up to rounding, and the same
bytes again for the same configuration.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from .config import TrainConfig
from .examples import Evaluation, Examples, Group, Values, asked, cut, joined, of_each_answer


def scaled(config: TrainConfig) -> type[Examples] | partial[ScaledExamples] | None:
    """What learns as the configuration asks; None where it asks for none of these."""
    parts, processes = config.training.accumulate, config.processes
    narrow = config.training.dtype == "bfloat16"
    if parts == processes == 1 and not narrow:
        return None
    return partial(ScaledExamples, parts=parts, processes=processes, narrow=narrow)


class ScaledExamples(Examples):
    """Examples that are learned in parts, as one of several processes, or in bfloat16."""

    def __init__(self, *known: Any, parts: int, processes: int, narrow: bool) -> None:
        super().__init__(*known)
        self._parts, self._processes, self._narrow = parts, processes, narrow

    def evaluation(self, *, gradients: bool) -> Evaluation:
        """Losses and guesses of all examples; gradients are left to the update, which every process makes."""
        train, test = self._seen(self._train, self._test)
        return Evaluation(train, test, None)

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
        for i, (inputs, targets) in enumerate(parts):
            last = i == len(parts) - 1
            waiting: AbstractContextManager[Any] = nullcontext() if last else network.no_sync()
            with torch.enable_grad(), waiting:
                logits = network(inputs)
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

    def _logits(self, inputs: Shaped[Tensor, "n *example"]) -> Float[Tensor, "n *answer classes"]:
        return self._logits_of(self._weights, inputs)

    def _logits_of(
        self, weights: dict[str, Tensor], inputs: Shaped[Tensor, "n *example"]
    ) -> Float[Tensor, "n *answer classes"]:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self._narrow):
            logits = self._config.logits(weights, inputs, self._reads)
        return logits.float() if self._narrow else logits


class _Network(torch.nn.Module):
    """A function of weights as a module. Its parameters are the learning weights themselves."""

    def __init__(self, logits: Any, weights: dict[str, Tensor], learning: Collection[str]) -> None:
        super().__init__()
        self._logits_of = logits
        self._fixed = {name: weight for name, weight in weights.items() if name not in learning}
        self.by_name = {name: torch.nn.Parameter(weights[name].detach()) for name in learning}
        self._ordered = torch.nn.ParameterList(self.by_name.values())

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self._logits_of({**self._fixed, **self.by_name}, inputs)
        # A weight on which no logit depends has a gradient of 0, for which the others would wait.
        nothing = sum(weight.flatten()[0] * 0 for weight in self.by_name.values())
        return logits + nothing
