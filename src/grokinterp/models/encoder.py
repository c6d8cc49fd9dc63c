"""Post-norm encoders: one stack of layers whose parts are normalised after they have been added, as
`torch.nn.TransformerEncoder` is by default, read out at the positions of the answers.

    x = LN(x + attention(x)), x = LN(x + MLP(x))

What a HookedTransformer lacks. Its layers are those of the encoder of an encoder-decoder
(encoder_decoder.py), without a normalisation of what is embedded, and with one more at the end or without.
Pre-norm encoders are HookedTransformers, with `attention_dir = "bidirectional"`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ..errors import UsageError
from ..tasks import Reads
from .base import NetworkConfig, Weights, is_bias, kind
from .encoder_decoder import EncoderDecoderConfig, Stack, linear, looking
from .transformer import ModelConfig

POST_NORM = "encoder"
"""The kind of network whose weights are named as those of a normalised transformer, in another order."""


@kind
class EncoderConfig(EncoderDecoderConfig):
    """A post-norm encoder. Vocabulary, positions and classes come from the task."""

    kind: Literal["encoder"] = "encoder"  # type: ignore[assignment]
    decoder_layers: Literal[0] = 0
    """It has no decoder."""
    norm_position: Literal["post"] = "post"
    final_norm: bool = False
    """Whether what leaves the last layer is normalised once more."""
    attention_dir: Literal["causal", "bidirectional"] = "bidirectional"

    yes_or_no = frozenset({"final_norm"})
    axes: ClassVar[Mapping[str, str]] = ModelConfig.axes

    def __str__(self) -> str:
        layers = "1 layer" if self.n_layers == 1 else f"{self.n_layers} layers"
        what = f"post-norm encoder of {layers}, d_model {self.d_model}, {self.n_heads} heads of {self.d_head}"
        return f"{what}, d_mlp {self.d_mlp}, {self.act_fn}{', LN at the end' * self.final_norm}"

    def stacks(self, reads: Reads) -> tuple[Stack, ...]:
        """The one stack, whose names have nothing in front.

        Raises:
            UsageError: examples are no tokens.
        """
        if not reads.d_vocab:
            raise UsageError(f"model.kind: an {self.kind} reads tokens, and {reads.task} has none")
        return (Stack("", self.n_layers, range(reads.n_ctx)),)

    @property
    def normalises_embeddings(self) -> bool:
        return False

    @property
    def normalises_at_the_end(self) -> bool:
        return self.final_norm

    def is_causal(self, stack: Stack) -> bool:
        return self.attention_dir == "causal"

    def logits(
        self, weights: Weights, inputs: Int[Tensor, "n pos"], reads: Reads, seen: Weights | None = None
    ) -> Float[Tensor, "n *answer classes"]:
        n_ctx, asked = inputs.shape[1], list(reads.positions)
        x = F.embedding(inputs, weights["embed.W_E"]) + weights["pos_embed.W_pos"][:n_ctx]
        look, causal = looking(seen, asked), self.attention_dir == "causal"

        def attend(at: str, x: Tensor) -> Tensor:
            return self._attend(weights, at, *self._heads(weights, at, "QKV", x), look=look, causal=causal)

        given = self._through(weights, "", x, attend, look=look)[:, asked]
        given = given.squeeze(1) if len(asked) == 1 else given
        return linear(given, weights["unembed.W_U"], weights["unembed.b_U"])

    def decode(
        self, weights: Weights, inputs: Int[Tensor, "n pos"], reads: Reads, written: Int[Tensor, "classes"]
    ) -> Int[Tensor, "n answer"]:
        return NetworkConfig.decode(self, weights, inputs, reads, written)

    def places(self, hook: str, reads: Reads) -> range | None:  # type: ignore[override]
        return None

    @classmethod
    def can_lack(cls, name: str) -> bool:
        """Whether there are such networks without this parameter: without the normalisation at the end."""
        return is_bias(name) or name.startswith("ln_final.")

    @classmethod
    def shown(cls, names: Collection[str], sizes: Mapping[str, int]) -> dict[str, Any]:
        layers = [int(match[1]) for name in names if (match := re.match(r"blocks\.(\d+)\.", name))]
        return {
            **{key: size for key, size in sizes.items() if key in cls.model_fields},
            "n_layers": 1 + max(layers, default=0),
            "n_heads": sizes["head"],
            "final_norm": "ln_final.w" in names,
        }

    def unseen(self) -> dict[str, Sequence[Any]]:
        """What weights do not show: the activation, and whether attention is causal."""
        fields = type(self).model_fields
        return {
            "act_fn": get_args(fields["act_fn"].annotation),
            "attention_dir": get_args(fields["attention_dir"].annotation) if self.n_layers > 1 else (),
        }
