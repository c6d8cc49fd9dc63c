"""What a kind of network is: a frozen configuration that knows all about the networks that it describes.

A new kind is one class under one line. It is told what a network may know of a task (`tasks.Reads`), never
the task:

    @kind
    class Linear(NetworkConfig):
        \"""A linear map of the one-hot operands.\"""

        kind: Literal["linear"] = "linear"
        act_fn: Literal["none"] = "none"

        def shapes(self, reads): ...
        def initial_weights(self, reads, seed): ...
        def logits(self, weights, inputs, reads, seen=None): ...
        def hooked(self, reads, weights, dtype=torch.float32): ...

    gi.TrainConfig.preset("quick", **{"model.kind": "linear"})
"""

from __future__ import annotations

import copy
import re
import warnings
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import torch
from jaxtyping import Float, Int, Shaped
from pydantic import Field
from torch import Tensor

from ..errors import ConfigError, UsageError
from ..frozen import Frozen, checked
from ..registry import Registry
from ..tasks import Reads

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookedRootModule

    from .exported import Exported
    from .folded import Folding
    from .one_layer import OneLayer

Weights = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
Width = Annotated[int, Field(ge=1, le=1 << 20)]
DEFAULT_KIND = "transformer"
"""What a section [model] without a `kind` describes."""
_CROSS = " cross"
_IN_A_BLOCK = re.compile(r"((?:\w+\.)*blocks\.\d+)\.")


@dataclass(frozen=True)
class Heads:
    """The heads of one attention of a layer.

    Attributes:
        prefix: what the names of its parameters and hooks begin with: `blocks.0.attn`.
        label: what it is called: `L0`, `decoder L0`, `decoder L0 cross` where it attends to another stack.
        count: how many there are.
    """

    prefix: str
    label: str
    count: int

    def name(self, part: str) -> str:
        """The full name of one of its parameters or hooks, such as `hook_z`."""
        return f"{self.prefix}.{part}"

    @property
    def out(self) -> str:
        """The hook of what they add to the stream together."""
        block, _, part = self.prefix.rpartition(".")
        return f"{block}.hook_{part}_out"

    @property
    def names(self) -> list[str]:
        """What each is called: `L0H1`, `decoder L0 cross H1`."""
        space = " " if self.label.endswith(_CROSS) else ""
        return [f"{self.label}{space}H{head}" for head in range(self.count)]


@dataclass(frozen=True)
class Block:
    """One layer of a network.

    Attributes:
        prefix: what the names of its parameters and hooks begin with: `blocks.0`, `decoder.blocks.0`.
        n_heads: of its attention; 0 where it has none.
        d_mlp: the neurons of its MLP; 0 where it has none.
        crosses: whether it attends to another stack as well, with as many heads.
    """

    prefix: str
    n_heads: int
    d_mlp: int
    crosses: bool = False

    def name(self, part: str) -> str:
        """The full name of one of its parameters or hooks, such as `mlp.hook_post`."""
        return f"{self.prefix}.{part}"

    @property
    def number(self) -> int:
        """Which layer of its stack it is."""
        return int(self.prefix.rpartition(".")[2])

    @property
    def label(self) -> str:
        """What it is called: `L0`, `decoder L0`."""
        stack = self.prefix.rpartition("blocks.")[0].rstrip(".")
        return f"{stack} L{self.number}".lstrip()

    @property
    def heads(self) -> tuple[Heads, ...]:
        """The heads of each of its attentions."""
        if not self.n_heads:
            return ()
        own = Heads(self.name("attn"), self.label, self.n_heads)
        across = Heads(self.name("cross_attn"), f"{self.label}{_CROSS}", self.n_heads)
        return (own, across) if self.crosses else (own,)


@dataclass(frozen=True)
class Inside:
    """Layers that work inside each part of an example on its own, such as a patch of an image: at their hooks
    every example has as many rows as it has parts.

    Attributes:
        prefix: what the names of their parameters and hooks begin with, such as `local.`.
        parts: of an example.
        position: at which what they give is read.
    """

    prefix: str
    parts: int
    position: int


def blocks_of(shapes: Mapping[str, Sequence[int]]) -> tuple[Block, ...]:
    """The layers of a network whose parameters have these names and shapes, in the order of the names."""
    prefixes = dict.fromkeys(match[1] for name in shapes if (match := _IN_A_BLOCK.match(name)))
    return tuple(
        Block(
            prefix,
            shapes.get(f"{prefix}.attn.W_Q", (0,))[0],
            shapes.get(f"{prefix}.mlp.W_in", (0, 0))[1],
            f"{prefix}.cross_attn.W_Q" in shapes,
        )
        for prefix in prefixes
    )


class NetworkConfig(Frozen):
    """The configuration of a kind of network, and what follows from it. Vocabulary, context and answers come
    from what the network reads of a task."""

    kind: str
    """The name of the kind in a section [model]."""
    act_fn: str
    """The nonlinearity of the neurons."""
    d_vocab_out: Width | None = None
    """The number of logits; absent: one for each answer, or for each token where answers have tokens of their
    own or of operands (`Reads.n_logits`). Nanda et al. unembed to the whole vocabulary."""

    axes: ClassVar[Mapping[str, str]] = {}
    """The parameters that networks of the kind may have, with {layer} for the number of a layer, and the
    names of their axes; `|` stands between alternatives. Foreign files of a kind without it are not read."""
    folds_where: ClassVar[str | None] = None
    """Which networks of the kind `folding` folds, as a sentence; None where it folds none."""
    reads_signs: ClassVar[bool] = True
    """Whether a network sees the signs of an example beside its operands, and where they stand."""

    resumes: ClassVar[bool] = False
    """Whether a hooked network begins at a layer where it is given `start_at_layer` and, in place of
    examples, the stream that enters there, as a HookedTransformer does."""

    @abstractmethod
    def shapes(self, reads: Reads) -> Shapes:
        """The shape of every parameter under its TransformerLens name, in the order of the computation."""

    @abstractmethod
    def initial_weights(self, reads: Reads, seed: int) -> Weights:
        """Fresh float32 weights on the CPU, from a generator of their own."""

    @abstractmethod
    def logits(
        self,
        weights: Weights,
        inputs: Shaped[Tensor, "n *example"],
        reads: Reads,
        seen: dict[str, Tensor] | None = None,
    ) -> Float[Tensor, "n *answer classes"]:
        """Logits where an answer is read, exactly those of the hooked network and differentiable in
        `weights`; with an axis for the answers where there are several.

        The inputs are those that `read` gives. What is computed on the way for an answer, patterns and
        activations of the neurons, is put into `seen` under the names of its hooks.
        """

    def passes(self, hook: str, changed: bool) -> bool:
        """Whether `logits_through` hands over what is at this hook, or even reads again what it is changed
        to: of a kind that does not say so, of none."""
        return False

    def logits_through(
        self,
        weights: Weights,
        inputs: Shaped[Tensor, "n *example"],
        reads: Reads,
        edit: Callable[[str, Tensor], Tensor],
    ) -> Float[Tensor, "n *answer classes"]:
        """`logits` of a network whose activations are changed on the way: `edit(hook, x)` is put in the place
        of what is at each hook that `passes`, laid out as in the hooked network. The last layer has the
        positions of the answers alone."""
        raise NotImplementedError

    @property
    def hook_names(self) -> Sequence[str] | None:
        """The names of all hooks of the hooked network, in its order; None where only that knows."""
        return None

    def decode(
        self,
        weights: Weights,
        inputs: Int[Tensor, "n pos"],
        reads: Reads,
        written: Int[Tensor, "classes"],
    ) -> Int[Tensor, "n answer"]:
        """The class of every answer that a network gives which reads its own answers, greedily: at every
        answer that of the largest logit, as whose token, `written[class]`, it stands at the next position.
        What `inputs` have there is not looked at. No autograd."""
        inputs, given = inputs.clone(), []
        with torch.no_grad():
            for answer, position in zip(reads.answers, reads.positions, strict=True):
                asked = reads.only(answer)
                logits = self.logits(weights, self.read(inputs, asked), asked)
                given.append(logits[:, : len(written)].argmax(1))
                if position + 1 < inputs.shape[1]:
                    inputs[:, position + 1] = written[given[-1]]
        return torch.stack(given, dim=1)

    def exported(self, to: str, reads: Reads, weights: Weights) -> Exported:
        """The network in the files of another tool: "transformer-lens" or "huggingface".

        Raises:
            UsageError: that has no such network.
        """
        raise UsageError(f"{to} has no network of the kind {self.kind}: export it as safetensors")

    @abstractmethod
    def hooked(self, reads: Reads, weights: Weights, dtype: torch.dtype = torch.float32) -> HookedRootModule:
        """The network in evaluation mode, every hook point live, that takes a task's inputs as they are.

        Raises:
            UsageError: the weights do not have the names and shapes that the configuration asks for.
        """

    def read(self, inputs: Shaped[Tensor, "n *example"], reads: Reads) -> Shaped[Tensor, "n *read"]:
        """What `logits` takes of every example: all of it, unless a kind says otherwise."""
        return inputs

    def sequence(self, reads: Reads) -> Reads:
        """The same with the positions along which the network computes, what stands at each, and where it
        reads an answer: those of the task, unless a kind says otherwise."""
        return reads

    def places(self, hook: str, reads: Reads) -> range | None:
        """Which positions of `sequence` a hook has, a pattern as its queries: None for all of them, unless a
        kind says otherwise. `reads` asks every answer of its task."""
        return None

    def inside(self, reads: Reads) -> Inside | None:
        """The layers that work inside each part of an example, if there are such."""
        return None

    def together(self, reads: Reads) -> int | None:
        """How many examples a thread computes at a time in training, few enough for its cache; None: as many
        as of a network of a few positions."""
        return None

    def trains(self, name: str) -> bool:
        """Whether the parameter of that name is trained."""
        return True

    @property
    def ties(self) -> Mapping[str, str]:
        """The parameters that are others transposed, with these: they are trained as one."""
        return {}

    def tie(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights with those that are others made of these, as views of them: what changes them changes
        both, and a gradient reaches them through both."""
        return {**weights, **{name: weights[of].mT for name, of in self.ties.items()}}

    def untie(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gradients by every parameter on its own as those of what is trained: what the loss changes by both
        of two that are one."""
        return {**gradients, **{of: gradients[of] + gradients[name].mT for name, of in self.ties.items()}}

    @property
    def drops(self) -> float:
        """The share of activations that are 0 in training, by chance; never in an evaluation."""
        return 0.0

    def logits_dropped(
        self,
        weights: Weights,
        inputs: Shaped[Tensor, "n *example"],
        reads: Reads,
        drop: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "n *answer classes"]:
        """`logits` of a network that `drops`, in training: `drop` is applied where it does."""
        raise NotImplementedError

    def __str__(self) -> str:
        """The network in a few words, for a reader."""
        return f"{self.kind}, {self.act_fn}"

    def n_logits(self, reads: Reads) -> int:
        """The number of logits that the configuration asks for: by default as many as the task needs.

        Raises:
            UsageError: it asks for fewer, or for more of a network that answers with a number.
        """
        asked = self.d_vocab_out
        if asked is not None and asked < reads.n_logits:
            what = "answers" if reads.n_logits == reads.n_classes else "tokens, of which each has a logit,"
            fewer = f"{asked} logits are fewer than the {reads.n_logits} {what} of {reads.task}"
            raise UsageError(f"model.d_vocab_out: {fewer}")
        if asked is not None and asked > reads.n_logits and self.gives_number:
            raise UsageError("model.d_vocab_out: a network that answers with a number has none: leave it out")
        return asked or reads.n_logits

    def blocks(self, reads: Reads) -> tuple[Block, ...]:
        """The layers, from the first to the last."""
        return blocks_of(self.shapes(reads))

    def numbers(self, reads: Reads) -> int:
        """About how many numbers training holds of one example at a time, gradients included."""
        neurons = sum(4 * block.d_mlp for block in self.blocks(reads))
        return neurons + 4 * self.n_logits(reads)

    def folding(self, inputs: Shaped[Tensor, "n *read"], reads: Reads) -> Folding | None:
        """How the network folds into tables on these examples (folded.py), which is several times faster;
        None where it does not."""
        return None

    def one_layer(self, reads: Reads) -> OneLayer | None:
        """The network as one layer without normalisation, gradient written out (one_layer.py); None where it
        is none."""
        return None

    @property
    def is_normalised(self) -> bool:
        """Whether what leaves the last layer is normalised before it is unembedded."""
        return False

    @property
    def gives_number(self) -> bool:
        """Whether it answers with a number, of which the nearest answer is taken, and not with classes."""
        return False

    @classmethod
    def can_lack(cls, name: str) -> bool:
        """Whether there are networks of the kind without this parameter of `axes`."""
        return is_bias(name)

    @classmethod
    def shown(cls, names: Collection[str], sizes: Mapping[str, int]) -> dict[str, Any]:
        """The keys of the configuration that weights of these names show, whose `axes` have these sizes."""
        return {key: size for key, size in sizes.items() if key in cls.model_fields}

    def unseen(self) -> dict[str, Sequence[Any]]:
        """The keys of the configuration of which weights alone show nothing, or not all, each with the values
        that it may have where the weights are as they are."""
        return {}


K = TypeVar("K", bound=NetworkConfig)
KINDS: Registry[type[NetworkConfig]] = Registry("kind", ConfigError, at="model.kind")
"""The kinds of networks by name."""


def kind(cls: type[K]) -> type[K]:
    """Registers a class of networks under the default of its field `kind`, which stands in [model].

    Raises:
        ValueError: another kind has this name.
    """
    name = cls.model_fields["kind"].default
    try:
        KINDS.add(name, cls)
    except ValueError:
        raise ValueError(f"two kinds of network are named {name!r}") from None
    return cls


def network_config(values: Mapping[Any, Any]) -> NetworkConfig:
    """The configuration that a section [model] describes; without a `kind` it is a transformer's.

    Raises:
        ConfigError: an unknown kind or key (the nearest is named), or a value out of range.
    """
    return checked(KINDS[str(values.get("kind", DEFAULT_KIND))], values, at="model")


def all_or_none(value: object) -> object:
    """What yes and no mean where a key says which biases there are."""
    return {True: "all", False: "none"}[value] if isinstance(value, bool) else value


def none_if_zero(value: object) -> object:
    """No value where a key says 0 or no: it is then as if it were absent."""
    return None if isinstance(value, int | float) and value == 0 else value


def is_bias(name: str) -> bool:
    """Whether a parameter is added rather than multiplied with."""
    last = name.rsplit(".", 1)[-1]
    return last == "b" or last.startswith("b_")


def fits(weights: Weights, expected: Mapping[str, tuple[int, ...]]) -> None:
    """
    Raises:
        UsageError: the weights do not have the names and shapes that are expected.
    """
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in sorted(expected.keys() | shapes.keys()):
        if shapes.get(name) != expected.get(name):
            what = f"weights do not fit the model: {name} has shape {shapes.get(name)}"
            raise UsageError(f"{what}, the configuration asks for {expected.get(name)}")


def refuse_untied(config: NetworkConfig, weights: Weights) -> None:
    """
    Raises:
        ConfigError: parameters that are to be one are not.
    """
    for name, of in config.ties.items():
        if not torch.equal(weights[name], weights[of].mT):
            what = f"model.tied: {name} is not {of} transposed in the weights to start from"
            raise ConfigError(f"{what}: leave model.tied out, or start from a network that has it")


def nearness(number: Float[Tensor, "*any 1"], reads: Reads) -> Float[Tensor, "*any classes"]:
    """The logits of a network that answers with a number: minus its squared distance to the number of every
    answer, so that the largest is that of the nearest one. `numbers_of_answers` says whether there are."""
    numbers = torch.tensor(numbers_of_answers(reads), dtype=number.dtype, device=number.device)
    return -(number - numbers).square()


def numbers_of_answers(reads: Reads) -> tuple[float, ...]:
    """The number of every logit.

    Raises:
        UsageError: not every logit is of a number that a network is told.
    """
    known = tuple(number for number in reads.logit_numbers if number is not None)
    if not known or len(known) < reads.n_logits:
        raise UsageError(
            f"model: a network that answers with a number needs answers that are numbers, not opaque, and no "
            f"logit of a sign; of the {reads.n_logits} logits of {reads.task} {len(known) or 'none'} are of "
            "a number that it is told"
        )
    return known


def operands_of(reads: Reads, kind: str) -> list[int]:
    """The positions of a and of b.

    Raises:
        UsageError: the task has not two operands and one answer.
    """
    if not {"a", "b"} <= set(reads.words) or len(reads.answers) != 1:
        raise UsageError(
            f"model.kind: {kind} reads the operands a and b and gives one answer; {reads.task} has the "
            f"positions {' '.join(reads.words)!r} and {len(reads.answers)} answers: choose another kind"
        )
    return [reads.words.index(word) for word in "ab"]


def part_of_network(prefix: str, weights: Weights, dtype: torch.dtype, *hooks: str) -> torch.nn.Module:
    """A module with the parameters whose names begin with a prefix, in that precision, and with hook points:
    what a hooked network is put together of."""
    from transformer_lens.hook_points import HookPoint

    module = torch.nn.Module()
    for name, weight in weights.items():
        head, _, last = name.rpartition(".")
        if head == prefix:
            module.register_parameter(last, torch.nn.Parameter(weight.to(dtype).clone()))
    for hook in hooks:
        module.add_module(hook, HookPoint())
    return module


def carried_config(model: HookedRootModule) -> NetworkConfig | None:
    """The configuration that a hooked network carries as its `config`: one whose positions are not those of
    the task has to."""
    config = getattr(model, "config", None)
    return config if isinstance(config, NetworkConfig) else None


def refuse_odd_heads(config: Any) -> None:
    """
    Raises:
        ValueError: no width of a head was set, and the heads do not divide that of the stream.
    """
    if "d_head" not in config.model_fields_set and config.d_model % config.n_heads:
        what = f"{config.n_heads} heads do not divide d_model {config.d_model}"
        raise ValueError(f"{what}: change one of them, or set d_head")


def noting(seen: dict[str, Tensor] | None, *names: str) -> Callable[[str, Tensor], Tensor]:
    """What lets every value pass, and puts those of these hooks into `seen`, where there is such."""

    def note(name: str, values: Tensor) -> Tensor:
        if seen is not None and name in names:
            seen[name] = values
        return values

    return note


def refuse_without_numbers(model: HookedRootModule) -> None:
    """
    Raises:
        UsageError: a parameter is on the meta device, which has shapes alone.
    """
    if (name := next((name for name, one in model.named_parameters() if one.is_meta), None)) is not None:
        what = f"the network is on the meta device, where {name} has a shape and no numbers"
        raise UsageError(f"{what}: load its weights into one that was made on the CPU")


def in_float64(model: HookedRootModule) -> HookedRootModule:
    """A copy of the network, its hooks included, that computes in float64.

    Raises:
        UsageError: it is on the meta device.
    """
    refuse_without_numbers(model)
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if hasattr(module, "cfg") and hasattr(module.cfg, "dtype"):
            module.cfg.dtype = torch.float64
    torch.nn.Module.to(twin, torch.float64)
    for point in twin.hook_dict.values():
        # What a user's hook puts in place may be float32: activations that the network itself gave, say.
        if point.fwd_hooks:
            point.add_perma_hook(lambda tensor, hook: tensor.double())
    return twin.eval()


def lens_classes() -> tuple[Any, Any]:
    """The class of hooked transformers, and that of their configurations: TransformerLens's own; of
    TransformerLens 4, which has no HookedTransformer, ours (hooked.py) and that of its bridge."""
    with deprecation_silenced():
        try:
            from transformer_lens import HookedTransformer, HookedTransformerConfig
        except ImportError:
            from transformer_lens import TransformerBridgeConfig

            from .hooked import HookedTransformer as Ours

            return Ours, TransformerBridgeConfig
        return HookedTransformer, HookedTransformerConfig


class deprecation_silenced(warnings.catch_warnings):
    """Silences exactly the notice of TransformerLens 3 that HookedTransformer goes in 4.0, for which
    `lens_classes` has an answer."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.filterwarnings("ignore", "HookedTransformer is deprecated", DeprecationWarning)
