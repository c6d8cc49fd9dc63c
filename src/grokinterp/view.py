"""Every fact that a measure needs of one network on one task: lazy, cached, in float64, in table order.

The network is run by TransformerLens itself, on a float64 copy with its hooks, so that losses of 1e-7 have digits and an
ablation hook that a user has added counts. Knows nothing of files or of training.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from .errors import NotApplicable, UsageError
from .models import in_float64
from .tasks import Split, Task

if TYPE_CHECKING:
    from .models import ActivationCache, HookedTransformer

Part = Literal["train", "test", "all"]
_CHUNK = 4096


class View:
    """A network's behaviour over the whole input table of a task.

    Attributes:
        task: the task; `n` below is its number of examples, in table order.
        model: the network as it was given.
        step: the optimiser updates that it has had, or None where that is not known.
        split: the training and test rows, or None where they are not known.
    """

    def __init__(self, task: Task, model: HookedTransformer, step: int | None = None, split: Split | None = None) -> None:
        cfg = model.cfg
        if cfg.d_vocab != task.d_vocab or cfg.d_vocab_out < task.n_answers or cfg.n_ctx != task.n_ctx:
            raise UsageError(
                f"the network takes {cfg.n_ctx} tokens of {cfg.d_vocab} kinds and gives {cfg.d_vocab_out} logits; {task.name} with "
                f"p={task.p} and layout {task.layout!r} needs {task.n_ctx}, {task.d_vocab} and {task.n_answers}: "
                f"give the task that it was trained on"
            )
        self.task = task
        self.model = model
        self._twin = in_float64(model)
        self.step = step
        self.split = split
        self.kept: dict[Callable[..., Any], Any] = {}
        """What measures have computed of this network and others build on."""

    @cached_property
    def weights(self) -> dict[str, Float64[Tensor, "..."]]:
        """All parameters under TransformerLens names."""
        return {name: weight.detach() for name, weight in self._twin.named_parameters()}

    @cached_property
    def _at_answer(self) -> dict[str, Float64[Tensor, "n ..."]]:
        """Logits, and what the last position attends to and computes in every layer, from one pass over the table."""
        names = [f"blocks.{layer}.{hook}" for layer in range(self.n_layers) for hook in ("attn.hook_pattern", "mlp.hook_post")]
        parts: dict[str, list[Tensor]] = {}
        with torch.no_grad():
            for tokens in self.task.inputs.to(self._device).split(self._together):
                logits, cache = self._twin.run_with_cache(tokens, names_filter=lambda name: name in names)
                assert isinstance(logits, Tensor)
                parts.setdefault("logits", []).append(logits[:, -1].cpu())
                for name, value in cache.items():
                    parts.setdefault(name, []).append(value[..., -1, :].cpu())
        return {name: torch.cat(values) for name, values in parts.items()}

    @property
    def _together(self) -> int:
        """How many examples go through the network at once: all of them where a user's hook may look at the whole batch."""
        hooks = (handle for point in self._twin.hook_dict.values() for handle in point.fwd_hooks)
        return _CHUNK if all(handle.is_permanent for handle in hooks) else self.task.n_inputs

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def cache(self) -> ActivationCache:
        """TransformerLens's ActivationCache over the whole table, all hooks and positions. Large: about 1.2 GB for p = 113, d_mlp = 512."""
        with torch.no_grad():
            _, cache = self._twin.run_with_cache(self.task.inputs.to(self._device))
        return cache

    @property
    def n_layers(self) -> int:
        return int(self.model.cfg.n_layers)

    @cached_property
    def logits(self) -> Float64[Tensor, "n answers"]:
        """Logits at the answer position. Logits of tokens that are no answers are left out."""
        return self._at_answer["logits"][:, : self.task.n_answers]

    @cached_property
    def neurons(self) -> Float64[Tensor, "n d_mlp"]:
        """MLP activations after the nonlinearity at the answer position, in the last layer.

        Raises:
            NotApplicable: the network has no MLP.
        """
        return self.neurons_of(self.n_layers - 1)

    def neurons_of(self, layer: int) -> Float64[Tensor, "n d_mlp"]:
        """The same in any layer."""
        name = f"blocks.{layer}.mlp.hook_post"
        if name not in self._at_answer:
            raise NotApplicable("the network has no MLP")
        return self._at_answer[name]

    @cached_property
    def attention(self) -> Float64[Tensor, "layer head n pos"]:
        """How much the answer position attends to each position, per layer and head, for every example."""
        return torch.stack([self._at_answer[f"blocks.{layer}.attn.hook_pattern"].transpose(0, 1) for layer in range(self.n_layers)])

    @cached_property
    def W_E(self) -> Float64[Tensor, "p d_model"]:
        """The embedding of the elements, in their order; operator and "=" are left out."""
        return self.weights["embed.W_E"][: self.task.p].cpu()

    @cached_property
    def W_L(self) -> Float64[Tensor, "d_mlp answers"]:
        """W_out W_U of the last layer: what each neuron adds to each logit.

        Raises:
            NotApplicable: the network has no MLP.
        """
        name = f"blocks.{self.n_layers - 1}.mlp.W_out"
        if name not in self.weights:
            raise NotApplicable("the network has no MLP")
        return (self.weights[name] @ self.weights["unembed.W_U"]).cpu()[:, : self.task.n_answers]

    def rows(self, part: Part) -> Bool[Tensor, "n"]:
        """Which examples belong to the training set, the test set, or both.

        Raises:
            NotApplicable: the split is not known.
        """
        chosen = torch.ones(self.task.n_inputs, dtype=torch.bool)
        if part == "all":
            return chosen
        if self.split is None:
            raise NotApplicable("it is not known which examples the network was trained on")
        chosen.zero_()[self.split.train if part == "train" else self.split.test] = True
        return chosen

    @property
    def parts(self) -> list[Part]:
        """The parts of the table that can be told apart."""
        return ["train", "test", "all"] if self.split is not None else ["all"]

    def loss(self, logits: Float64[Tensor, "n answers"] | None = None) -> Float64[Tensor, "n"]:
        """Cross-entropy of every example in nats: of the network's own logits, or of others in their place."""
        logits = self._logits_with_all_classes if logits is None else logits
        # As logsumexp over the wrong classes: in float64 too, log_softmax bottoms out (at 2.2e-16).
        at = self.task.targets[:, None]
        wrong = (logits - logits.gather(1, at)).scatter(1, at, -torch.inf)
        return torch.nn.functional.softplus(wrong.logsumexp(1), threshold=50)

    def correct(self, logits: Float64[Tensor, "n answers"] | None = None) -> Bool[Tensor, "n"]:
        """Whether the largest logit of every example is the answer's."""
        logits = self._logits_with_all_classes if logits is None else logits
        return logits.argmax(1) == self.task.targets

    @property
    def _logits_with_all_classes(self) -> Float64[Tensor, "n classes"]:
        """Logits as the training loss sees them: those of tokens that are no answers included."""
        return self._at_answer["logits"]

    def on_grid(self, x: Float64[Tensor, "n *rest"]) -> Float64[Tensor, "p p *rest"]:
        """x as a function of (a, b).

        Raises:
            NotApplicable: not every pair of elements is an example.
        """
        if not self.task.is_full_grid:
            raise NotApplicable(f"{self.task.name} leaves out pairs, so its examples fill no p × p grid")
        return x.unflatten(0, (self.task.p, self.task.p))

    def needs_frequencies(self) -> None:
        """
        Raises:
            NotApplicable: the elements are no residues mod p, so they have no frequencies.
        """
        if not self.task.cyclic:
            raise NotApplicable(f"the elements of {self.task.symbol} are no residues, so frequencies on Z_p mean nothing")


def view(model: HookedTransformer, task: Task, step: int | None = None, split: Split | None = None) -> View:
    """A View of a network in memory; no run directory is needed. Hooks on the network stay in force.

    Raises:
        UsageError: the network does not take this task's tokens.
    """
    return View(task, model, step, split)
