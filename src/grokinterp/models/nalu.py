"""Neural arithmetic logic units of Trask et al. 2018 (arXiv 1808.00508), hooked: layers that add and multiply
the numbers a and b themselves, in place of embedding their tokens.

    W = tanh(W_hat) σ(M_hat)             weights near -1, 0 and 1
    a = x W                              the add path
    m = exp(log(|x| + eps) W)            the multiply path, with the same W
    g = σ(x G)
    y = g a + (1 - g) m

What comes out of the last layer is the answer, a number (`nearness`). a / b is W = (1, -1) with the gate
shut, in one layer. Matrices are [in, out], as TransformerLens has them, and activations have a position axis
of size 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Float64, Int
from pydantic import Field
from torch import Tensor

from ..errors import UsageError
from ..tasks import Reads
from .base import (
    NetworkConfig,
    Shapes,
    Weights,
    Width,
    deprecation_silenced,
    fits,
    kind,
    nearness,
    noting,
    numbers_of_answers,
    operands_of,
    part_of_network,
)

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookedRootModule


@kind
class NALUConfig(NetworkConfig):
    """Layers of neural arithmetic logic units on the numbers a and b. The last one has one unit."""

    kind: Literal["nalu"] = "nalu"
    act_fn: Literal["none"] = "none"
    n_layers: int = Field(1, ge=1, le=64)
    width: Width = 2
    """The units of every layer but the last."""
    eps: float = Field(1e-7, gt=0, le=1)
    """What is added to |x| before the logarithm."""
    init: Literal["glorot"] = "glorot"
    """Every matrix uniform, with the variance 2 / (in + out) (Glorot and Bengio 2010)."""
    init_scale: float = Field(1.0, gt=0, le=1e6)
    """Every initial weight is multiplied by this."""

    reads_signs = False

    def __str__(self) -> str:
        layers = "1 layer" if self.n_layers == 1 else f"{self.n_layers} layers of {self.width}"
        return f"NALU of {layers}, answers with a number"

    @property
    def gives_number(self) -> bool:
        """Always: it answers with a number."""
        return True

    def shapes(self, reads: Reads) -> Shapes:
        """The shape of every parameter, in the order of the computation.

        Raises:
            UsageError: the task has not two operands and one answer, or they are no numbers.
        """
        operands_of(reads, "a nalu")
        numbers_of_answers(reads)
        self.n_logits(reads)
        if not reads.token_numbers:
            raise UsageError(f"model.kind: a nalu reads numbers, and the symbols of {reads.task} are none")
        widths = [2, *[self.width] * (self.n_layers - 1), 1]
        return {
            f"blocks.{layer}.nalu.{name}": (widths[layer], widths[layer + 1])
            for layer in range(self.n_layers)
            for name in ("W_hat", "M_hat", "G")
        }

    def initial_weights(self, reads: Reads, seed: int) -> Weights:
        """Fresh float32 weights on the CPU, from a generator of their own."""
        generator = torch.Generator().manual_seed(seed)
        weights: Weights = {}
        for name, shape in self.shapes(reads).items():
            drawn = 2 * torch.rand(shape, generator=generator, dtype=torch.float32) - 1
            weights[name] = drawn * (math.sqrt(6 / sum(shape)) * self.init_scale)
        return weights

    def read(self, inputs: Int[Tensor, "n pos"], reads: Reads) -> Float64[Tensor, "n 2"]:
        """The numbers a and b."""
        # A sign has none, and no operand is one.
        numbers = [math.nan if number is None else number for number in reads.token_numbers]
        of_token = torch.tensor(numbers, dtype=torch.float64, device=inputs.device)
        return of_token[inputs[:, operands_of(reads, "a nalu")]]

    def logits(
        self, weights: Weights, inputs: Float64[Tensor, "n 2"], reads: Reads, seen: Weights | None = None
    ) -> Float[Tensor, "n classes"]:
        return self._onward(weights, inputs, reads, noting(seen, "hook_number"))

    def _onward(
        self,
        weights: Mapping[str, Tensor],
        numbers: Float64[Tensor, "*any 2"],
        reads: Reads,
        hook: Callable[[str, Tensor], Tensor],
    ) -> Float[Tensor, "*any classes"]:
        """The logits, from the numbers a and b; every value passes the hook of its name."""
        x = hook("hook_numbers", numbers.to(weights["blocks.0.nalu.G"].dtype))
        for layer in range(self.n_layers):
            at = f"blocks.{layer}"
            w_hat, m_hat, by_gate = (weights[f"{at}.nalu.{name}"] for name in ("W_hat", "M_hat", "G"))
            w = w_hat.tanh() * m_hat.sigmoid()
            gate = hook(f"{at}.nalu.hook_gate", (x @ by_gate).sigmoid())
            added = hook(f"{at}.nalu.hook_add", x @ w)
            multiplied = hook(f"{at}.nalu.hook_multiply", ((x.abs() + self.eps).log() @ w).exp())
            x = hook(f"{at}.hook_nalu_out", gate * added + (1 - gate) * multiplied)
        return hook("hook_logits", nearness(hook("hook_number", x), reads))

    def hooked(self, reads: Reads, weights: Weights, dtype: torch.dtype = torch.float32) -> HookedRootModule:
        """The network in evaluation mode, every hook point live: hook_numbers [n, 1, 2], of every layer
        blocks.0.nalu.hook_gate, hook_add and hook_multiply and blocks.0.hook_nalu_out [n, 1, out],
        hook_number [n, 1, 1], hook_logits.

        Called with tokens [n, pos] it gives logits [n, 1, answers].
        """
        fits(weights, self.shapes(reads))
        with deprecation_silenced():
            from transformer_lens import HookedRootModule
            from transformer_lens.hook_points import HookPoint

        config = self

        class HookedNALU(HookedRootModule):  # type: ignore[misc, unused-ignore]  # imported inside a function
            def __init__(self) -> None:
                super().__init__()
                sizes = {"n_ctx": reads.n_ctx, "d_vocab": reads.d_vocab, "n_layers": config.n_layers}
                logits = config.n_logits(reads)
                self.cfg = SimpleNamespace(**sizes, d_vocab_out=logits, act_fn=config.act_fn, attn_only=True)
                self.hook_numbers, self.hook_number, self.hook_logits = (HookPoint() for _ in range(3))
                layers = []
                for layer in range(config.n_layers):
                    block: Any = torch.nn.Module()
                    hooks = ("hook_gate", "hook_add", "hook_multiply")
                    block.nalu = part_of_network(f"blocks.{layer}.nalu", weights, dtype, *hooks)
                    block.hook_nalu_out = HookPoint()
                    layers.append(block)
                self.blocks = torch.nn.ModuleList(layers)
                self.setup()  # type: ignore[no-untyped-call, unused-ignore]

            def forward(self, tokens: Int[Tensor, "n pos"]) -> Float[Tensor, "n 1 classes"]:
                numbers = config.read(tokens, reads)[:, None]
                weights = dict(self.named_parameters())
                return config._onward(weights, numbers, reads, lambda name, x: self.hook_dict[name](x))

        return HookedNALU().eval()
