"""Multilayer perceptrons over two operands, hooked like a transformer.

    Chughtai et al. 2023 (arXiv 2302.03025)   an embedding for each operand, no W_out:  logits = relu([x W_x ;
                                                                                        y W_y] W_in) W_U
    Gromov 2023 (arXiv 2301.02679)            one-hot operands, squared activation:     logits = (W_in[:p][a]
                                                                                        + W_in[p:][b])² W_U
    seiferfl/neural-circuit-lab (SimpleMLP)   one embedding, W_out and no skip:         logits = relu([x W_E ;
                                                                                        y W_E] W_in + b_in)
                                                                                        W_out W_U

Weights and hooks carry the names that TransformerLens gives to their counterparts, and activations have a
position axis of size 1 where a transformer has one per token, so that everything which looks at
`blocks.0.mlp.hook_post` looks at these too.

What comes before the nonlinearity is a sum of what the two operands add, each a row of its table:
`MLPConfig.logits` folds these tables from the weights and gathers, which is exact and takes no product of all
examples with W_in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.nn import functional as F

from ..tasks import Reads
from .base import (
    NetworkConfig,
    Shapes,
    Weights,
    Width,
    all_or_none,
    deprecation_silenced,
    fits,
    is_bias,
    kind,
    nearness,
    noting,
    numbers_of_answers,
    operands_of,
    part_of_network,
)

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookedRootModule

Embedding = Literal["separate", "shared", "one_hot"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "square": torch.square}


@kind
class MLPConfig(NetworkConfig):
    """A multilayer perceptron of one hidden layer. Elements and answers come from the task."""

    kind: Literal["mlp"] = "mlp"
    embedding: Embedding = "separate"
    """`separate`: one table for each operand; `shared`: one for both; `one_hot`: none, W_in reads the
    operands themselves."""
    d_model: Width = 128
    """The width of an operand's embedding; without meaning for one_hot."""
    d_mlp: Width = 512
    act_fn: Literal["relu", "gelu", "square"] = "relu"
    d_out: Width | None = None
    """The width between W_out and W_U; absent: the neurons are unembedded directly, without a W_out."""
    biases: Annotated[Literal["none", "in", "all"], BeforeValidator(all_or_none)] = "none"
    """Which biases there are, all of them trained; `in`: that of the neurons alone."""
    readout: Literal["classes", "number"] = "classes"
    """`number`: W_U has one column, and of the number that it gives the nearest answer is taken (regression,
    with `training.loss = "squared_distance"`)."""
    init: Literal["fan_in", "nanda", "gromov"] = "fan_in"
    """`fan_in`: N(0, 1 / rows) for every matrix, W_E N(0, 1 / d_model) (Chughtai et al. 2023); `nanda`: the
    same, but W_out N(0, 1 / d_out) and W_U N(0, 1 / number of logits), as Nanda et al. 2023 draw their
    transformers; `gromov`: standard deviation ½ (2 d_mlp)^(-1/3)."""
    init_scale: float = Field(1.0, gt=0, le=1e6)
    """Every initial weight is multiplied by this."""

    yes_or_no = frozenset({"biases"})
    axes: ClassVar[Mapping[str, str]] = {
        "embed.W_E": "vocab d_model",
        "embed_a.W_E": "vocab d_model",
        "embed_b.W_E": "vocab d_model",
        "blocks.0.mlp.W_in": "(operand d_model) d_mlp | (operand vocab) d_mlp",
        "blocks.0.mlp.b_in": "d_mlp",
        "blocks.0.mlp.W_out": "d_mlp d_out",
        "blocks.0.mlp.b_out": "d_out",
        "unembed.W_U": "d_out out | d_mlp out",
        "unembed.b_U": "out",
    }
    reads_signs = False

    def __str__(self) -> str:
        number = ", answers with a number" if self.gives_number else ""
        return f"1 layer, d_model {self.d_model}, d_mlp {self.d_mlp}, {self.act_fn}{number}"

    @property
    def _embeddings(self) -> list[str]:
        """The tables of a and of b; of one-hot operands there are none."""
        return {"separate": ["embed_a", "embed_b"], "shared": ["embed"] * 2, "one_hot": []}[self.embedding]

    def shapes(self, reads: Reads) -> Shapes:
        """The shape of every parameter, in the order of the computation.

        Raises:
            UsageError: the task has not two operands and one answer, it needs more logits, or its answers are
                no numbers.
        """
        operands_of(reads, "an mlp")
        n_out = self.n_logits(reads)
        if self.gives_number:
            numbers_of_answers(reads)
            n_out = 1
        shapes: Shapes = {f"{name}.W_E": (reads.d_vocab, self.d_model) for name in self._embeddings}
        width = self.d_model if shapes else reads.d_vocab
        matrices = {"blocks.0.mlp.{}_in": (2 * width, self.d_mlp)}
        if self.d_out:
            matrices["blocks.0.mlp.{}_out"] = (self.d_mlp, self.d_out)
        matrices["unembed.{}_U"] = (self.d_out or self.d_mlp, n_out)
        for name, (rows, columns) in matrices.items():
            shapes[name.format("W")] = (rows, columns)
            if self.biases == "all" or (self.biases == "in" and name.endswith("_in")):
                shapes[name.format("b")] = (columns,)
        return shapes

    def initial_weights(self, reads: Reads, seed: int) -> Weights:
        """Fresh float32 weights on the CPU, from a generator of their own; biases are 0.

        They are drawn in the order and the orientation of the code that each recipe is from (for `nanda` that
        of SimpleMLP), so that a seed gives the very weights that it gives there after
        `torch.manual_seed(seed)`.
        """
        shapes = self.shapes(reads)
        randn = partial(torch.randn, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
        if self.init == "gromov":
            # torch.nn.Linear draws weights of its own first, all of which are drawn anew.
            n_numbers = sum(math.prod(shape) for shape in shapes.values() if len(shape) == 2)
            torch.empty(n_numbers).uniform_(generator=randn.keywords["generator"])
        weights: Weights = {}
        for name, shape in shapes.items():
            last = name.rsplit(".", 1)[-1]
            if len(shape) == 1:
                drawn = torch.zeros(shape)
            elif self.init == "gromov":
                drawn = randn(shape[::-1]).T * (0.5 / (2 * self.d_mlp) ** (1 / 3))
            elif self.init == "nanda":
                across = last in ("W_E", "W_in", "W_out")
                drawn = randn(shape[::-1]).T if across else randn(shape)
                drawn = drawn / math.sqrt(shape[0] if last == "W_in" else shape[1])
            else:
                drawn = randn(shape) / math.sqrt(shape[1] if last == "W_E" else shape[0])
            weights[name] = (drawn * self.init_scale).contiguous()
        return weights

    def read(self, inputs: Int[Tensor, "n pos"], reads: Reads) -> Int[Tensor, "n 2"]:
        """The tokens of a and of b: all that a multilayer perceptron reads."""
        return inputs[:, operands_of(reads, "an mlp")]

    def logits(
        self, weights: Weights, inputs: Int[Tensor, "n 2"], reads: Reads, seen: Weights | None = None
    ) -> Float[Tensor, "n classes"]:
        """Logits for pairs of operands, through the tables of what each operand adds to a neuron."""
        halves = weights["blocks.0.mlp.W_in"].chunk(2)
        tables = [weights[f"{name}.W_E"] for name in self._embeddings]
        of_a, of_b = map(torch.matmul, tables, halves) if tables else halves

        before = F.embedding(inputs[:, 0], of_a) + F.embedding(inputs[:, 1], of_b)
        return self._onward(weights, before, reads, noting(seen, "blocks.0.mlp.hook_post", "hook_number"))

    def _onward(
        self,
        weights: Mapping[str, Tensor],
        before: Float[Tensor, "*any d_mlp"],
        reads: Reads,
        hook: Callable[[str, Tensor], Tensor],
    ) -> Float[Tensor, "*any classes"]:
        """The logits, from what the operands add to the neurons; every value passes the hook of its name."""

        def plus(values: Tensor, bias: str) -> Tensor:
            return values + weights[bias] if bias in weights else values

        before = hook("blocks.0.mlp.hook_pre", plus(before, "blocks.0.mlp.b_in"))
        out = hook("blocks.0.mlp.hook_post", ACTIVATIONS[self.act_fn](before))
        if self.d_out:
            out = plus(out @ weights["blocks.0.mlp.W_out"], "blocks.0.mlp.b_out")
        out = hook("blocks.0.hook_mlp_out", out)
        out = plus(out @ weights["unembed.W_U"], "unembed.b_U")
        return hook("hook_logits", nearness(hook("hook_number", out), reads) if self.gives_number else out)

    @property
    def gives_number(self) -> bool:
        """Whether it answers with a number, of which the nearest answer is taken."""
        return self.readout == "number"

    def numbers(self, reads: Reads) -> int:
        """About how many numbers training holds of one example at a time: the neurons, and what is
        embedded."""
        return super().numbers(reads) + 6 * self.d_model

    @classmethod
    def shown(cls, names: Collection[str], sizes: Mapping[str, int]) -> dict[str, Any]:
        biases = {name for name in names if is_bias(name)}
        which = "none" if not biases else "in" if biases == {"blocks.0.mlp.b_in"} else "all"
        return super().shown(names, sizes) | {"biases": which}

    def unseen(self) -> dict[str, Sequence[Any]]:
        """What weights do not show: the activation, with the values that it may have."""
        return {"act_fn": list(ACTIVATIONS)}

    def hooked(self, reads: Reads, weights: Weights, dtype: torch.dtype = torch.float32) -> HookedRootModule:
        """The network in evaluation mode, every hook point live: hook_embed [n, 1, 2 d_model] (none for
        one_hot), blocks.0.mlp.hook_pre and hook_post, blocks.0.hook_mlp_out, where it answers with a number
        hook_number [n, 1, 1], and hook_logits.

        Called with tokens [n, pos] it gives logits [n, 1, answers].
        """
        fits(weights, self.shapes(reads))
        with deprecation_silenced():
            from transformer_lens import HookedRootModule
            from transformer_lens.hook_points import HookPoint

        config, positions = self, operands_of(reads, "an mlp")

        def part(prefix: str, *hooks: str) -> torch.nn.Module:
            return part_of_network(prefix, weights, dtype, *hooks)

        class HookedMLP(HookedRootModule):  # type: ignore[misc, unused-ignore]  # imported inside a function
            def __init__(self) -> None:
                super().__init__()
                sizes = {"n_ctx": reads.n_ctx, "d_vocab": reads.d_vocab, "d_mlp": config.d_mlp}
                sizes |= {"n_layers": 1, "d_vocab_out": config.n_logits(reads)}
                self.cfg = SimpleNamespace(**sizes, act_fn=config.act_fn, attn_only=False)
                for name in config._embeddings:
                    self.add_module(name, part(name))
                self.hook_embed = HookPoint()
                block: Any = torch.nn.Module()
                block.mlp = part("blocks.0.mlp", "hook_pre", "hook_post")
                block.hook_mlp_out = HookPoint()
                self.blocks = torch.nn.ModuleList([block])
                self.unembed = part("unembed")
                if config.gives_number:
                    self.hook_number = HookPoint()
                self.hook_logits = HookPoint()
                self.setup()  # type: ignore[no-untyped-call, unused-ignore]

            def forward(self, tokens: Int[Tensor, "n pos"]) -> Float[Tensor, "n 1 classes"]:
                weights = dict(self.named_parameters())
                w_in, operands = weights["blocks.0.mlp.W_in"], tokens[:, positions].T
                if config._embeddings:
                    tables = [weights[f"{name}.W_E"] for name in config._embeddings]
                    embedded = torch.cat(list(map(F.embedding, operands, tables)), dim=1)
                    before = self.hook_embed(embedded[:, None]) @ w_in
                else:
                    of_a, of_b = map(F.embedding, operands, w_in.chunk(2))
                    before = (of_a + of_b)[:, None]
                return config._onward(weights, before, reads, lambda name, x: self.hook_dict[name](x))

        return HookedMLP().eval()
