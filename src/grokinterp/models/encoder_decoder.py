"""Encoder-decoder transformers: one stack of layers reads a question, another writes its answer token by
token.

An example is a row of tokens, the question and behind it the start of the answer. The encoder reads the
positions before the first at which an answer is read, and every one of them attends to all. The decoder has
the rest: each position attends to itself and those before it (`attn`), then to what the encoder gave
(`cross_attn`). Parts of a layer are those of Vaswani et al. 2017 (arXiv 1706.03762), normalised as
`norm_position` says:

    post    x = LN(x + part(x)), and embeddings are normalised before the first layer: XLM's network
    pre     x = x + part(LN(x)), and each stack ends in one more LN

Facts of LAWT, the code of Charton 2021 (arXiv 2112.01898), which is XLM's: post-norm, ReLU, learned
positions, LN of the embeddings, an LN behind each part. Here as there, but for four things. There the
cross-attention of a layer takes its queries from what enters the layer, here from what its self-attention
gave, as in Vaswani et al. and in torch. There each stack has an embedding, and the decoder's is the readout
too; here the two share one, and the readout has weights of its own, as answers are classes, not tokens. The
eps of LN is 1e-5 as everywhere here, not 1e-12. And the decoder is as wide as the encoder.

Names of parameters and hooks are TransformerLens's (those of its T5Block, and of its BertBlock for what
post-norm adds) with `encoder.` or `decoder.` in front; `embed` and `unembed` stand alone.
`EncoderDecoderConfig.logits` gives the same numbers without writing out a pattern.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float, Int, Shaped
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from ..errors import UsageError
from ..tasks import Reads
from .base import (
    Block,
    NetworkConfig,
    Shapes,
    Weights,
    Width,
    deprecation_silenced,
    fits,
    kind,
    part_of_network,
    refuse_odd_heads,
)
from .forward import ACTIVATIONS

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookedRootModule

_EPS = 1e-5  # TransformerLens's and torch's default
_POSITIONS, _MOST_TOGETHER = 1024, 64
"""About how many positions a thread computes at a time, and how many examples at most, so that two threads
share a batch of 128."""

Part = Callable[[str, Float[Tensor, "n pos d_model"]], Float[Tensor, "n pos d_model"]]
"""A part of a layer: what it adds to the stream, from the prefix of its names and what it reads."""


class Stack(NamedTuple):
    """The encoder, or the decoder.

    Attributes:
        prefix: of its names.
        n_layers: its layers.
        positions: of the row, that it reads.
    """

    prefix: str
    n_layers: int
    positions: range

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of each of its layers in their order; the LN of the first is ln1, and so on."""
        return ("attn", "cross_attn", "mlp") if self.prefix == "decoder." else ("attn", "mlp")


def _axes_of(stack: str) -> dict[str, str]:
    """The parameters that a stack may have, with {layer} for the number of a layer, and their axes."""
    at, decoder = f"{stack}.blocks.{{layer}}", stack == "decoder"
    axes: dict[str, str] = {}
    for part in ("attn", "cross_attn") if decoder else ("attn",):
        axes |= {f"{at}.{part}.W_{letter}": "head d_model d_head" for letter in "QKV"}
        axes |= {f"{at}.{part}.b_{letter}": "head d_head" for letter in "QKV"}
        axes |= {f"{at}.{part}.W_O": "head d_head d_model", f"{at}.{part}.b_O": "d_model"}
    axes |= {f"{at}.mlp.W_in": "d_model d_mlp", f"{at}.mlp.b_in": "d_mlp"}
    axes |= {f"{at}.mlp.W_out": "d_mlp d_model", f"{at}.mlp.b_out": "d_model"}
    norms = [f"{stack}.ln_embed", f"{stack}.ln_final", *(f"{at}.ln{i}" for i in range(1, 3 + decoder))]
    return axes | {f"{norm}.{key}": "d_model" for norm in norms for key in "wb"}


@kind
class EncoderDecoderConfig(NetworkConfig):
    """An encoder-decoder transformer. Vocabulary, positions and classes come from the task."""

    kind: Literal["encoder_decoder"] = "encoder_decoder"
    n_layers: int = Field(2, ge=1, le=64)
    """Of the encoder."""
    decoder_layers: int = Field(1, ge=1, le=64)
    d_model: Width = 128
    n_heads: Width = 4
    d_head: Width = Field(default_factory=lambda sizes: max(1, sizes["d_model"] // sizes["n_heads"]))
    """By default d_model / n_heads."""
    d_mlp: int = Field(default_factory=lambda sizes: 4 * sizes["d_model"], ge=1, le=1 << 22)
    """By default 4 d_model."""
    act_fn: Literal["relu", "gelu", "gelu_new", "silu"] = "relu"
    normalization: Literal["LN"] = "LN"
    norm_position: Literal["post", "pre"] = "post"
    init_scale: float = Field(1.0, gt=0, le=1e6)
    """Every initial weight is multiplied by this, but for those of LN."""

    resumes = True
    axes: ClassVar[Mapping[str, str]] = {
        "embed.W_E": "vocab d_model",
        "encoder.pos_embed.W_pos": "question_pos d_model",
        "decoder.pos_embed.W_pos": "answer_pos d_model",
        **{name: axes for stack in ("encoder", "decoder") for name, axes in _axes_of(stack).items()},
        "unembed.W_U": "d_model out",
        "unembed.b_U": "out",
    }

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> EncoderDecoderConfig:
        refuse_odd_heads(self)
        return self

    def __str__(self) -> str:
        return (
            f"encoder of {_layers(self.n_layers)}, decoder of {_layers(self.decoder_layers)}, d_model "
            f"{self.d_model}, {self.n_heads} heads of {self.d_head}, d_mlp {self.d_mlp}, {self.act_fn}, "
            f"{self.norm_position}-norm"
        )

    def stacks(self, reads: Reads) -> tuple[Stack, ...]:
        """The encoder and the decoder; `reads` asks every answer of its task.

        Raises:
            UsageError: examples are no tokens, answers are not read one behind the other up to the last
                position, or no question stands before them.
        """
        a_kind, first = f"model.kind: an {self.kind}", reads.positions[0]
        if not reads.d_vocab:
            raise UsageError(f"{a_kind} reads tokens, and {reads.task} has none: choose another kind")
        if reads.positions != tuple(range(first, reads.n_ctx)):
            raise UsageError(
                f"{a_kind} writes its answers one behind the other up to the last position, and "
                f"{reads.task} reads them at {', '.join(map(str, reads.positions))} of 0 to "
                f"{reads.n_ctx - 1}: choose another kind"
            )
        if not first:
            raise UsageError(
                f"{a_kind} reads a question, and of {reads.task} an answer is read at the first position: "
                "choose another kind"
            )
        encoder = Stack("encoder.", self.n_layers, range(first))
        return encoder, Stack("decoder.", self.decoder_layers, range(first, reads.n_ctx))

    @property
    def normalises_embeddings(self) -> bool:
        """Whether what is embedded is normalised before the first layer."""
        return self.norm_position == "post"

    @property
    def normalises_at_the_end(self) -> bool:
        """Whether a stack ends in one more LN."""
        return self.norm_position == "pre"

    def is_causal(self, stack: Stack) -> bool:
        """Whether a position attends only to itself and those before it."""
        return stack.prefix == "decoder."

    def shapes(self, reads: Reads) -> Shapes:
        """The shape of every parameter, in the order of the computation.

        Raises:
            UsageError: what `stacks` says, or the task needs more logits.
        """
        d, n_logits = self.d_model, self.n_logits(reads)
        shapes: Shapes = {"embed.W_E": (reads.d_vocab, d)}
        for stack in self.stacks(reads):
            at = stack.prefix
            shapes[f"{at}pos_embed.W_pos"] = (len(stack.positions), d)
            if self.normalises_embeddings:
                shapes |= self._norm(f"{at}ln_embed")
            for layer in range(stack.n_layers):
                for number, part in enumerate(stack.parts, 1):
                    shapes |= self._norm(f"{at}blocks.{layer}.ln{number}")
                    own = self._mlp if part == "mlp" else self._attention
                    shapes |= {f"{at}blocks.{layer}.{part}.{name}": shape for name, shape in own.items()}
            if self.normalises_at_the_end:
                shapes |= self._norm(f"{at}ln_final")
        return shapes | {"unembed.W_U": (d, n_logits), "unembed.b_U": (n_logits,)}

    def _norm(self, at: str) -> Shapes:
        return {f"{at}.w": (self.d_model,), f"{at}.b": (self.d_model,)}

    @property
    def _attention(self) -> Shapes:
        heads, d, d_head = self.n_heads, self.d_model, self.d_head
        shapes: Shapes = {f"W_{letter}": (heads, d, d_head) for letter in "QKV"}
        shapes |= {f"b_{letter}": (heads, d_head) for letter in "QKV"}
        return shapes | {"W_O": (heads, d_head, d), "b_O": (d,)}

    @property
    def _mlp(self) -> Shapes:
        d, d_mlp = self.d_model, self.d_mlp
        return {"W_in": (d, d_mlp), "b_in": (d_mlp,), "W_out": (d_mlp, d), "b_out": (d,)}

    def initial_weights(self, reads: Reads, seed: int) -> Weights:
        """Fresh float32 weights on the CPU, from a generator of their own, as LAWT draws them: embeddings and
        positions N(0, 1 / d_model); every matrix and its bias uniform within 1 / sqrt(what it reads), which
        is the default of `torch.nn.Linear`; LN 1 and 0."""
        generator = torch.Generator().manual_seed(seed)
        weights: Weights = {}
        shapes = self.shapes(reads)
        for name, shape in shapes.items():
            at, _, last = name.rpartition(".")
            if last in ("w", "b"):
                weights[name] = torch.full(shape, float(last == "w"))
            elif last in ("W_E", "W_pos"):
                drawn = torch.randn(shape, generator=generator, dtype=torch.float32)
                weights[name] = drawn * (self.init_scale / math.sqrt(self.d_model))
            else:
                matrix = shapes[f"{at}.W_{last[2:]}"]
                read = math.prod(matrix[:-1]) if last[2:] == "O" else matrix[-2]
                drawn = 2 * torch.rand(shape, generator=generator, dtype=torch.float32) - 1
                weights[name] = drawn * (self.init_scale / math.sqrt(read))
        return weights

    def logits(
        self, weights: Weights, inputs: Int[Tensor, "n pos"], reads: Reads, seen: Weights | None = None
    ) -> Float[Tensor, "n *answer classes"]:
        embedded, split = self._embedded(weights, inputs)
        asked = [position - split for position in reads.positions]
        # Behind the last answer that is asked nothing is computed, unless all patterns are wanted.
        needed = max(asked) + 1 if seen is None else embedded.shape[1] - split
        question, answer = embedded[:, : split + needed].split([split, needed], 1)
        memory = self._encoded(weights, question)
        look = looking(seen, asked)

        def attend(at: str, x: Tensor) -> Tensor:
            return self._attend(weights, at, *self._heads(weights, at, "QKV", x), look=look, causal=True)

        def attend_across(at: str, x: Tensor) -> Tensor:
            (q,), (k, v) = self._heads(weights, at, "Q", x), self._heads(weights, at, "KV", memory)
            return self._attend(weights, at, q, k, v, look=look)

        written = self._through(weights, "decoder.", answer, attend, attend_across, look)
        if asked != list(range(needed)):
            written = written[:, asked]
        if len(asked) == 1:
            written = written.squeeze(1)
        return linear(written, weights["unembed.W_U"], weights["unembed.b_U"])

    def decode(
        self,
        weights: Weights,
        inputs: Int[Tensor, "n pos"],
        reads: Reads,
        written: Int[Tensor, "classes"],
    ) -> Int[Tensor, "n answer"]:
        """The same as of every kind, of all examples at once: the encoder runs once, what its positions give
        as keys and values is computed once for each layer, and those of the decoder's positions are kept from
        token to token.

        Raises:
            UsageError: more tokens are asked for than the decoder has positions.
        """
        W_pos, n_answers = weights["decoder.pos_embed.W_pos"], len(reads.answers)
        if n_answers > len(W_pos):
            raise UsageError(
                f"the decoder has {len(W_pos)} positions and is asked for {n_answers} tokens: ask for no more"
            )
        given: list[Tensor] = []
        with torch.no_grad():
            embedded, split = self._embedded(weights, inputs)
            memory = self._encoded(weights, embedded[:, :split])
            across, kept = {}, {}
            for layer in range(self.decoder_layers):
                at = f"decoder.blocks.{layer}."
                across[f"{at}cross_attn"] = self._heads(weights, f"{at}cross_attn", "KV", memory)
                kept[f"{at}attn"] = memory.new_empty(2, len(inputs), self.n_heads, n_answers, self.d_head)

            def attend(at: str, x: Tensor) -> Tensor:
                (q, *own), done = self._heads(weights, at, "QKV", x), len(given)
                kept[at][..., done : done + 1, :] = torch.stack(own)
                return self._attend(weights, at, q, *kept[at][..., : done + 1, :])

            def attend_across(at: str, x: Tensor) -> Tensor:
                return self._attend(weights, at, *self._heads(weights, at, "Q", x), *across[at])

            x = embedded[:, split : split + 1]
            while True:
                last = self._through(weights, "decoder.", x, attend, attend_across)[:, 0]
                logits = linear(last, weights["unembed.W_U"], weights["unembed.b_U"])
                given.append(logits[:, : len(written)].argmax(1))
                if len(given) == n_answers:
                    return torch.stack(given, dim=1)
                x = F.embedding(written[given[-1]], weights["embed.W_E"])[:, None] + W_pos[len(given)]

    def _embedded(
        self, weights: Weights, inputs: Int[Tensor, "n pos"]
    ) -> tuple[Float[Tensor, "n pos d_model"], int]:
        """What enters the two stacks, beside one another, and where the second begins.

        Raises:
            UsageError: examples have more tokens, or fewer, than there are positions.
        """
        of_each = [weights[f"{prefix}pos_embed.W_pos"] for prefix in ("encoder.", "decoder.")]
        split = len(of_each[0])
        _refuse_other_lengths(inputs.shape[1], *map(len, of_each))
        return F.embedding(inputs, weights["embed.W_E"]) + torch.cat(of_each), split

    def _encoded(
        self, weights: Weights, question: Float[Tensor, "n question d_model"]
    ) -> Float[Tensor, "n question d_model"]:
        """What the encoder gives the decoder."""

        def attend(at: str, x: Tensor) -> Tensor:
            return self._attend(weights, at, *self._heads(weights, at, "QKV", x))

        return self._through(weights, "encoder.", question, attend)

    def _through(
        self,
        weights: Weights,
        prefix: str,
        x: Float[Tensor, "n pos d_model"],
        attend: Part,
        attend_across: Part | None = None,
        look: _Look | None = None,
    ) -> Float[Tensor, "n pos d_model"]:
        """What a stack makes of what is embedded, with these attentions."""

        def norm(x: Tensor, at: str) -> Tensor:
            return F.layer_norm(x, x.shape[-1:], weights[f"{at}.w"], weights[f"{at}.b"], _EPS)

        def mlp(at: str, x: Tensor) -> Tensor:
            before = linear(x, weights[f"{at}.W_in"], weights[f"{at}.b_in"])
            hidden = ACTIVATIONS[self.act_fn](before)
            if look is not None:
                look(f"{at}.hook_post", hidden)
            return linear(hidden, weights[f"{at}.W_out"], weights[f"{at}.b_out"])

        across = {} if attend_across is None else {"cross_attn": attend_across}
        parts: dict[str, Part] = {"attn": attend, **across, "mlp": mlp}
        post = self.norm_position == "post"
        x = norm(x, f"{prefix}ln_embed") if self.normalises_embeddings else x
        for layer in range(self.decoder_layers if across else self.n_layers):
            at = f"{prefix}blocks.{layer}"
            for number, (name, part) in enumerate(parts.items(), 1):
                ln = f"{at}.ln{number}"
                x = x + part(f"{at}.{name}", x if post else norm(x, ln))
                x = norm(x, ln) if post else x
        return norm(x, f"{prefix}ln_final") if self.normalises_at_the_end else x

    def _heads(
        self, weights: Weights, at: str, letters: str, x: Float[Tensor, "n pos d_model"]
    ) -> tuple[Float[Tensor, "n head pos d_head"], ...]:
        """Queries, keys, values, or some of them, from one product."""
        several = [weights[f"{at}.W_{letter}"].transpose(0, 1) for letter in letters]
        matrix = torch.cat(several, 1).flatten(1)  # [d_model, letter x head x d_head]
        bias = torch.cat([weights[f"{at}.b_{letter}"] for letter in letters]).flatten()
        both = linear(x, matrix, bias).unflatten(-1, (len(letters), self.n_heads, self.d_head))
        return both.permute(2, 0, 3, 1, 4).unbind(0)

    def _attend(
        self,
        weights: Weights,
        at: str,
        q: Float[Tensor, "n head query d_head"],
        k: Float[Tensor, "n head key d_head"],
        v: Float[Tensor, "n head key d_head"],
        *,
        look: _Look | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "n query d_model"]:
        """What attention adds to the stream."""
        if look is None:
            z = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        else:
            scores = q @ k.mT / math.sqrt(self.d_head)
            scores = scores.masked_fill(_after(scores), -torch.inf) if causal else scores
            pattern = scores.softmax(-1)
            look(f"{at}.hook_pattern", pattern.transpose(1, 2))
            z = pattern @ v
        z = z.transpose(1, 2).flatten(2)
        return linear(z, weights[f"{at}.W_O"].flatten(0, 1), weights[f"{at}.b_O"])

    def together(self, reads: Reads) -> int:
        """A power of two, so that batches of such a size are cut into equal pieces."""
        fitting = min(_MOST_TOGETHER, max(1, _POSITIONS // reads.n_ctx))
        return int(1 << (fitting.bit_length() - 1))

    def numbers(self, reads: Reads) -> int:
        """About how many numbers training holds of one example at a time: the stream and what is normalised,
        queries, keys, values and neurons at all positions, logits at those of answers."""
        held = 4 * self.n_logits(reads) * len(reads.positions)
        for stack in self.stacks(reads):
            of_part = 6 * self.d_model + 4 * self.n_heads * self.d_head
            at_each = len(stack.parts) * of_part + 4 * self.d_mlp
            held += stack.n_layers * len(stack.positions) * at_each
        return held

    def blocks(self, reads: Reads) -> tuple[Block, ...]:
        # Not read off the shapes: every forward of a View asks.
        return tuple(
            Block(f"{stack.prefix}blocks.{layer}", self.n_heads, self.d_mlp, "cross_attn" in stack.parts)
            for stack in self.stacks(reads)
            for layer in range(stack.n_layers)
        )

    @classmethod
    def can_lack(cls, name: str) -> bool:
        """Whether there are such networks without this parameter: with fewer layers of one stack than of the
        other, or normalised elsewhere."""
        return re.search(r"\.(blocks\.[1-9]\d*|ln_embed|ln_final)\.", name) is not None

    @classmethod
    def shown(cls, names: Collection[str], sizes: Mapping[str, int]) -> dict[str, Any]:
        def layers(stack: str) -> int:
            found = (re.match(rf"{stack}\.blocks\.(\d+)\.", name) for name in names)
            return 1 + max((int(match[1]) for match in found if match), default=0)

        return super().shown(names, sizes) | {
            "n_layers": layers("encoder"),
            "decoder_layers": layers("decoder"),
            "n_heads": sizes["head"],
            "norm_position": "post" if "encoder.ln_embed.w" in names else "pre",
        }

    def unseen(self) -> dict[str, Sequence[Any]]:
        """What weights do not show: the activation."""
        return {"act_fn": get_args(type(self).model_fields["act_fn"].annotation)}

    @property
    def is_normalised(self) -> bool:
        """Always."""
        return True

    def places(self, hook: str, reads: Reads) -> range:
        """Those of the question in the encoder and where the decoder has keys and values of it, else those of
        the answer."""
        of_question = hook.startswith("encoder.") or hook.endswith(("cross_attn.hook_k", "cross_attn.hook_v"))
        encoder, decoder = self.stacks(reads)
        return (encoder if of_question else decoder).positions

    def hooked(self, reads: Reads, weights: Weights, dtype: torch.dtype = torch.float32) -> HookedRootModule:
        """The network in evaluation mode, every hook live: called with rows of tokens [n, pos] it gives
        logits [n, answer, classes].

        Of each layer of both stacks: hook_resid_pre, attn.hook_q, hook_k, hook_v, hook_attn_scores,
        hook_pattern and hook_z, hook_attn_out, hook_resid_mid, mlp.hook_pre and hook_post, hook_mlp_out,
        hook_resid_post, and hook_scale and hook_normalized of ln1, ln2 and so on; of the decoder's also
        cross_attn.hook_q and so on, hook_cross_attn_out and hook_resid_mid_cross; post-norm, also
        hook_normalized_resid_post, which is what the next layer reads. In front hook_embed and
        hook_pos_embed of each stack.
        """
        fits(weights, self.shapes(reads))
        with deprecation_silenced():
            from transformer_lens import HookedRootModule

        config, stacks = self, self.stacks(reads)

        class HookedEncoderDecoder(HookedRootModule):  # type: ignore[misc, unused-ignore]  # inside a function
            config: Any
            cfg: Any

            def __init__(self) -> None:
                super().__init__()
                sizes = {"n_ctx": reads.n_ctx, "d_vocab": reads.d_vocab, "n_heads": config.n_heads}
                sizes |= {"n_layers": config.n_layers + config.decoder_layers, "d_model": config.d_model}
                logits = config.n_logits(reads)
                self.cfg = SimpleNamespace(**sizes, d_vocab_out=logits, act_fn=config.act_fn, dtype=dtype)
                self.config = config
                self.embed = part_of_network("embed", weights, dtype)
                for stack in stacks:
                    parts = _modules(config, stack, weights, dtype)
                    named = {stack.prefix[:-1]: parts} if stack.prefix else dict(parts.named_children())
                    for name, part in named.items():
                        self.add_module(name, part)
                self.unembed = part_of_network("unembed", weights, dtype)
                self.setup()  # type: ignore[no-untyped-call, unused-ignore]

            def forward(
                self,
                input: Shaped[Tensor, "n pos *d_model"],
                *,
                start_at_layer: int | None = None,
                stop_at_layer: int | None = None,
            ) -> Float[Tensor, "n positions given"]:
                """Layers are counted through both stacks. What enters one is the stream of the encoder, or
                what it gave, and beside it that of the decoder, or what enters it."""
                if len(stacks) == 2:
                    _refuse_other_lengths(input.shape[1], *(len(stack.positions) for stack in stacks))
                weights: Weights = dict(self.named_parameters())
                start, done, memory = start_at_layer or 0, 0, None
                last = sum(stack.n_layers for stack in stacks) if stop_at_layer is None else stop_at_layer
                given = []
                for stack in stacks:
                    x = input[:, stack.positions.start : stack.positions.stop]
                    x = self._embedded(weights, stack, x) if start_at_layer is None else x
                    first, stop = (min(max(at - done, 0), stack.n_layers) for at in (start, last))
                    done += stack.n_layers
                    x = self._through(weights, stack, x, memory, range(first, stop))
                    # What a resumed pass is given of an encoder that is done has left it.
                    leaves = stop == stack.n_layers and (start < done or stack is stacks[-1])
                    memory = self._left(weights, stack, x) if leaves else x
                    given.append(memory)
                if stop_at_layer is not None:
                    return torch.cat(given, 1)
                return given[-1] @ weights["unembed.W_U"] + weights["unembed.b_U"]

            def _embedded(self, weights: Weights, stack: Stack, tokens: Tensor) -> Tensor:
                hook = self._hook
                embedded = hook(f"{stack.prefix}hook_embed", weights["embed.W_E"][tokens])
                positions = weights[f"{stack.prefix}pos_embed.W_pos"].expand_as(embedded)
                x = embedded + hook(f"{stack.prefix}hook_pos_embed", positions)
                return (
                    self._norm(weights, f"{stack.prefix}ln_embed", x) if config.normalises_embeddings else x
                )

            def _left(self, weights: Weights, stack: Stack, x: Tensor) -> Tensor:
                return (
                    self._norm(weights, f"{stack.prefix}ln_final", x) if config.normalises_at_the_end else x
                )

            def _through(
                self, weights: Weights, stack: Stack, x: Tensor, memory: Tensor | None, layers: range
            ) -> Tensor:
                post, hook = config.norm_position == "post", self._hook
                for layer in layers:
                    at = f"{stack.prefix}blocks.{layer}"
                    x = hook(f"{at}.hook_resid_pre", x)
                    for number, part in enumerate(stack.parts, 1):
                        ln = f"{at}.ln{number}"
                        read = x if post else self._norm(weights, ln, x)
                        if part == "mlp":
                            added = self._mlp(weights, f"{at}.mlp", read)
                        else:
                            keyed = memory if part == "cross_attn" and memory is not None else read
                            causal = config.is_causal(stack) and part == "attn"
                            added = self._attention(weights, f"{at}.{part}", read, keyed, causal)
                        x = hook(f"{at}.{_STREAM[part]}", x + hook(f"{at}.hook_{part}_out", added))
                        x = self._norm(weights, ln, x) if post else x
                    x = hook(f"{at}.hook_normalized_resid_post", x) if post else x
                return x

            def _hook(self, name: str, x: Tensor) -> Tensor:
                return self.hook_dict[name](x)

            def _norm(self, weights: Weights, at: str, x: Tensor) -> Tensor:
                x = x - x.mean(-1, keepdim=True)
                scale = self._hook(f"{at}.hook_scale", (x.square().mean(-1, keepdim=True) + _EPS).sqrt())
                x = self._hook(f"{at}.hook_normalized", x / scale)
                return x * weights[f"{at}.w"] + weights[f"{at}.b"]

            def _mlp(self, weights: Weights, at: str, x: Tensor) -> Tensor:
                before = self._hook(f"{at}.hook_pre", x @ weights[f"{at}.W_in"] + weights[f"{at}.b_in"])
                hidden = self._hook(f"{at}.hook_post", ACTIVATIONS[config.act_fn](before))
                return hidden @ weights[f"{at}.W_out"] + weights[f"{at}.b_out"]

            def _attention(self, weights: Weights, at: str, x: Tensor, keyed: Tensor, causal: bool) -> Tensor:
                q, k, v = (
                    self._hook(
                        f"{at}.hook_{letter.lower()}",
                        torch.einsum("npd,hde->nphe", read, weights[f"{at}.W_{letter}"])
                        + weights[f"{at}.b_{letter}"],
                    )
                    for letter, read in (("Q", x), ("K", keyed), ("V", keyed))
                )
                scores = torch.einsum("nqhe,nkhe->nhqk", q, k) / math.sqrt(config.d_head)
                scores = scores.masked_fill(_after(scores), -torch.inf) if causal else scores
                scores = self._hook(f"{at}.hook_attn_scores", scores)
                pattern = self._hook(f"{at}.hook_pattern", scores.softmax(-1))
                z = self._hook(f"{at}.hook_z", torch.einsum("nhqk,nkhe->nqhe", pattern, v))
                return torch.einsum("nqhe,hed->nqd", z, weights[f"{at}.W_O"]) + weights[f"{at}.b_O"]

        return HookedEncoderDecoder().eval()


_STREAM = {"attn": "hook_resid_mid", "cross_attn": "hook_resid_mid_cross", "mlp": "hook_resid_post"}
"""The hook of the stream behind each part of a layer."""
_HOOKS_OF_ATTENTION = ("hook_q", "hook_k", "hook_v", "hook_attn_scores", "hook_pattern", "hook_z")
_HOOKS = {"mlp": ("hook_pre", "hook_post"), "attn": _HOOKS_OF_ATTENTION, "cross_attn": _HOOKS_OF_ATTENTION}


def _modules(
    config: EncoderDecoderConfig, stack: Stack, weights: Weights, dtype: torch.dtype
) -> torch.nn.Module:
    """The parameters and hook points of a stack, those of each layer in the order of the computation."""
    from transformer_lens.hook_points import HookPoint

    def add(module: torch.nn.Module, at: str, name: str, *hooks: str) -> None:
        module.add_module(name, part_of_network(f"{at}{name}", weights, dtype, *hooks))

    post, norm = config.norm_position == "post", ("hook_scale", "hook_normalized")
    whole = part_of_network("", {}, dtype, "hook_embed", "hook_pos_embed")
    add(whole, stack.prefix, "pos_embed")
    if config.normalises_embeddings:
        add(whole, stack.prefix, "ln_embed", *norm)
    layers = []
    for layer in range(stack.n_layers):
        at = f"{stack.prefix}blocks.{layer}."
        block = part_of_network("", {}, dtype, "hook_resid_pre")
        for number, part in enumerate(stack.parts, 1):
            if not post:
                add(block, at, f"ln{number}", *norm)
            add(block, at, part, *_HOOKS[part])
            for hook in (f"hook_{part}_out", _STREAM[part]):
                block.add_module(hook, HookPoint())
            if post:
                add(block, at, f"ln{number}", *norm)
        layers.append(block)
        if post:
            block.add_module("hook_normalized_resid_post", HookPoint())
    whole.add_module("blocks", torch.nn.ModuleList(layers))
    if config.normalises_at_the_end:
        add(whole, stack.prefix, "ln_final", *norm)
    return whole


_Look = Callable[[str, Float[Tensor, "n pos *rest"]], None]
"""What is shown a value under the name of its hook."""


def looking(seen: Weights | None, asked: list[int]) -> _Look | None:
    """What puts values at the positions of the answers into `seen`, where there is such."""
    if seen is None:
        return None

    def look(name: str, values: Tensor) -> None:
        at_answers = values[:, asked]
        seen[name] = at_answers.squeeze(1) if len(asked) == 1 else at_answers

    return look


def linear(
    x: Float[Tensor, "*any entries"], matrix: Float[Tensor, "entries out"], bias: Float[Tensor, "out"]
) -> Float[Tensor, "*any out"]:
    return F.linear(x, matrix.T, bias)


def _after(scores: Float[Tensor, "n head query key"]) -> Tensor:
    """Which keys are behind each query."""
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)


def _refuse_other_lengths(n: int, question: int, answer: int) -> None:
    """
    Raises:
        UsageError: so many tokens do not fill the two stacks.
    """
    if n != question + answer:
        raise UsageError(
            f"the encoder reads {question} tokens and the decoder {answer}, and an example has {n}: give "
            "examples of the task that the network was trained on"
        )


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"
