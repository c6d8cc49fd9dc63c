"""Every fact that a measure needs of one network on one task: lazy, cached, in float64, in table order.

A network that was handed over is run by TransformerLens itself, on a float64 copy with its hooks, so that
losses of 1e-7 have digits and an ablation hook that a user has added counts. Of bare weights, which have no
hooks, what is needed most is computed by a shorter way to the same numbers, and the network is built only
when something else is asked of it. Knows nothing of files or of training.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import torch
from jaxtyping import Bool, Float64, Int, Shaped
from torch import Tensor

from .asked import (
    COUNT,
    NAME,
    NAMES,
    NETWORK,
    OTHER_EXAMPLES,
    TASK,
    TENSOR,
    WEIGHTS,
    asks,
    asks_all,
    got,
    network_inside,
)
from .errors import ConfigError, NotApplicable, UsageError, nearest
from .models import Block, Heads, Inside, ModelConfig, at_answer, blocks_of, carried_config, fits, in_float64
from .shown import Rows, Shown
from .tasks import Split, Task

if TYPE_CHECKING:
    from .models import ActivationCache, HookedRootModule, NetworkConfig, Weights

Classes = Literal["labels", "answers"]
"""What examples are held against: the labels that the network is given, or the right answers. They differ
where labels are noisy."""
T = TypeVar("T")
_FEWEST_TOGETHER, _MOST_TOGETHER = 32, 4096
_POSITIONS = 3 * 4096
"""Examples that are run at a time, and about how many positions they have: of 1,000 neurons 100 MB."""
_SHORT = 512
"""Those of which an answer alone is computed."""
_TOGETHER = 1024
"""Examples of which the losses are computed at a time, in the processor's cache."""
_LARGEST_KEPT = 2**28
"""Bytes of what enters a layer, up to which it is kept."""

LARGEST_EXPONENT = 600.0
"""exp of it and of its negative are far inside the range of float64, and so is a sum of thousands."""


class lazy(cached_property[T]):
    """functools.cached_property with a lock for each value of each View: that of Python before 3.12 is one
    for all objects, so that no two Views could be run at once, and later there is none."""

    def __get__(self, view: Any, owner: type[Any] | None = None) -> Any:
        if view is None:
            return self
        if self.attrname not in view.__dict__:
            with one_at_a_time(view.__dict__, self.attrname):
                if self.attrname not in view.__dict__:
                    view.__dict__[self.attrname] = self.func(view)
        return view.__dict__[self.attrname]


_locks: dict[tuple[int, Any], list[Any]] = {}
_of_locks = threading.Lock()


@contextmanager
def one_at_a_time(store: dict[Any, Any], key: Any) -> Iterator[None]:
    """Lets one thread at a time compute what will stand under a key of a store."""
    of = id(store), key
    with _of_locks:
        held = _locks.setdefault(of, [threading.RLock(), 0])
        held[1] += 1
    try:
        with held[0]:
            yield
    finally:
        with _of_locks:
            held[1] -= 1
            if not held[1]:
                del _locks[of]


def _widened(weight: Tensor) -> Float64[Tensor, "..."]:
    """A copy in float64, in which what is too small for float32 to hold with all its digits is 0.

    Weights decay to such numbers in a network that has forgotten everything. In float32 every product of them
    is 0; in float64 their signs would still give answers that the network never gave.
    """
    wide = weight.detach().to("cpu", torch.float64, copy=True)
    if weight.dtype == torch.float64:
        return wide
    return wide.masked_fill_(wide.abs() < torch.finfo(torch.float32).tiny, 0)


@asks_all("view")
class View(Shown):
    """A network's behaviour over the whole input table of a task.

    Operands and answers are in the order of the task's table, whatever their tokens are; the columns of
    logits are the answer classes, then the tokens that are no answers.

    Where labels are noisy, losses and what is correct are of the labels that the network is given, unless the
    right answers are asked for.

    Where a task asks several answers a View speaks of one at a time: of the first, and `at` gives that of
    another, so that logits are [n, class] and every measure is of one answer.

    Attributes:
        task: the task; `n` below is its number of examples, in table order.
        reads: what the network may know of the task, of which this answer alone is asked; positions and words
            are those along which the network computes.
        answer: the answer that was chosen with `at`; None where none was.
        step: the optimiser updates that it has had, or None where that is not known.
        split: the training and test rows, or None where they are not known.
    """

    @asks("gi.View", task=TASK, model=NETWORK)
    def __init__(
        self, task: Task, model: HookedRootModule, step: int | None = None, split: Split | None = None
    ) -> None:
        model = cast("HookedRootModule", network_inside(model))
        cfg, self._config, reads = model.cfg, carried_config(model), task.reads
        if self._config is not None:
            try:
                fits(dict(model.named_parameters()), self._config.shapes(reads))
            except UsageError as reason:
                raise UsageError(f"{reason}: give the task that it was trained on") from None
        elif cfg.d_vocab != reads.d_vocab or cfg.d_vocab_out < reads.n_logits or cfg.n_ctx != reads.n_ctx:
            raise UsageError(
                f"the network takes {cfg.n_ctx} tokens of {cfg.d_vocab} kinds and gives {cfg.d_vocab_out} "
                f"logits; {task.name} ({task.symbol}, read as {' '.join(reads.words)!r}) needs "
                f"{reads.n_ctx}, {reads.d_vocab} and {reads.n_logits}: give the task that it was trained on"
            )
        self.model = model
        self._bare, self._twins = False, {0: in_float64(model)}
        self.weights = {name: weight.detach() for name, weight in sorted(self._twin.named_parameters())}
        self._set(task, step, split)

    @classmethod
    def of_weights(
        cls,
        task: Task,
        config: NetworkConfig,
        weights: Weights,
        step: int | None = None,
        split: Split | None = None,
    ) -> View:
        """The View of a network that has these weights and no hooks of anybody's.

        Raises:
            UsageError: the weights do not have the names and shapes that the configuration asks for.
        """
        fits(weights, config.shapes(task.reads))
        view = cls.__new__(cls)
        view.weights = {name: _widened(weight) for name, weight in sorted(weights.items())}
        view._config, view._bare, view._twins = config, True, {}
        view._set(task, step, split)
        return view

    _config: NetworkConfig | None
    """What describes the network, where that is known."""
    _bare: bool
    """Whether there are only weights, and no hooks of anybody's."""
    _twins: dict[int, HookedRootModule]

    def _set(self, task: Task, step: int | None, split: Split | None) -> None:
        task.look_through()
        self.task, self.step, self.split = task, step, split
        config = self._config
        self._sequence = task.reads if config is None else config.sequence(task.reads)
        self._inside = None if config is None else config.inside(task.reads)
        self.reads = self._sequence.only(task.reads.answers[0])
        self._streams: dict[int, Tensor] = {}
        self.answer: str | None = None
        self._whole: View | None = None
        self.kept: dict[Any, Any] = {}
        """What measures have computed of this network and others build on."""

    def at(self, answer: str) -> View:
        """The View of the same network that speaks of another answer.

        Raises:
            UsageError: the task asks no such answer; the nearest is named.
        """
        other = copy.copy(self)
        for name in other.__dict__.keys() & _OF_ONE_ANSWER:
            del other.__dict__[name]
        other.reads, other.answer, other.kept = self._sequence.only(answer), answer, {}
        other._whole = self.whole
        return other

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers that it can be asked of with `at`: all of the task's, unless one has been chosen."""
        return self.task.reads.answers if self.answer is None else (self.answer,)

    @lazy
    def targets(self) -> Int[Tensor, "n"]:
        """The class of the right answer to every example; 0 where it is not asked."""
        return self._column(self.task.targets).clamp(min=0)

    @lazy
    def asked(self) -> Bool[Tensor, "n"]:
        """Of which examples this answer is asked: of all, unless the task says otherwise."""
        return self._column(self.task.targets) >= 0

    @property
    def whole(self) -> View:
        """The View that this one was chosen from with `at`; itself where none was."""
        return self._whole or self

    @property
    def which(self) -> int:
        """The number of the answer that it speaks of among those of the task."""
        return self.task.reads.answers.index(self.reads.answers[0])

    def _column(self, classes: Shaped[Tensor, "n *answer"]) -> Shaped[Tensor, "n"]:
        return classes if classes.ndim == 1 else classes[:, self.which]

    weights: dict[str, Float64[Tensor, "..."]]
    """All parameters under TransformerLens names, in the order of these."""

    @lazy
    def model(self) -> HookedRootModule:
        """The network: as it was given, or made of the weights, in float64."""
        assert self._config is not None
        return self._config.hooked(self.task.reads, self.weights, torch.float64)

    def _in_a_line(self) -> str:
        step = "" if self.step is None else f" at step {self.step:,}"
        answer = "" if self.answer is None else f", answer {self.answer}"
        return f"of {self.task.symbol}{step}{answer}: {self.task.n_inputs:,} {self.task.examples_are}"

    def _as_rows(self) -> Rows:
        parts = (
            "not known" if self.split is None else f"{len(self.split.train):,} and {len(self.split.test):,}"
        )
        return [
            ("network", self.network),
            ("logits of", f"{self.task.n_answers} answers"),
            ("answers", self.answers),
            ("trained on, tested on", parts),
        ]

    @property
    def network(self) -> str:
        """The network in words: its sizes where they are known, else what it is called."""
        if self._config is None:
            with suppress(AttributeError, ConfigError):
                return str(ModelConfig.of_hooked(self.model.cfg))
            return type(self.model).__name__
        return str(self._config)

    @property
    def gives_number(self) -> bool:
        """Whether the network answers with a number, from which its logits are made."""
        return self._config is not None and self._config.gives_number

    @property
    def side_by_side(self) -> bool:
        """Whether several threads may run it at once: each then has a network of its own, which can be made
        of bare weights alone."""
        return self._bare

    @property
    def _twin(self) -> HookedRootModule:
        """The network that is run: in float64, and out of a caller's reach. Of bare weights each thread has
        one, as hooks are put on it."""
        of = threading.get_ident() if self._bare else 0
        if of not in self._twins:
            assert self._config is not None
            self._twins[of] = self._config.hooked(self.task.reads, self.weights, torch.float64)
        return self._twins[of]

    @lazy
    def _at_answer(self) -> dict[str, Float64[Tensor, "n ..."]]:
        """Logits, and what the position of the answer attends to and computes in every layer."""
        if len(self.task.reads.answers) > 1:
            return {name: values[:, self.which] for name, values in self.whole._at_answers.items()}
        return self._at_answers

    @lazy
    def _at_answers(self) -> dict[str, Float64[Tensor, "n ..."]]:
        """The same for all answers of the task, with an axis for them behind the examples where there are
        several, from one pass over the table."""
        if self._bare:
            assert self._config is not None
            values = at_answer(self._config, self.task.reads, self.weights, self.task.inputs)
            return {**values, "logits": self._by_class(values["logits"])}
        names = [heads.name("hook_pattern") for heads in self.attentions]
        names += [post for block in self.blocks if not self.elsewhere(post := block.name("mlp.hook_post"))]
        names.append("hook_number")
        return self._pass(names, (), None, self._sequence.positions)

    @asks("view.activations", names=NAMES)
    def activations(
        self,
        names: Sequence[str],
        edits: Sequence[tuple[str, Callable[..., Tensor]]] = (),
        rows: Int[Tensor, "m"] | None = None,
        *,
        everywhere: bool = True,
    ) -> dict[str, Float64[Tensor, "rows ..."]]:
        """What the network computes at the answer position at named hooks, and its `logits` (of answers, then
        of all other tokens), from a pass over the table.

        Args:
            names: hook names; patterns are given at the answer position as query. A name that the network
                lacks is left out. Of layers inside parts of an example (`Inside`) what each part gives, with
                an axis for the parts behind that of the examples; of a stack that reads no answer (an
                encoder) what each of its positions gives, with an axis for them there.
            edits: hook functions `(tensor, hook) -> tensor`, by hook name, that change activations on the
                way, at all positions. They see the examples in table order, some at a time or, where the
                network has hooks of its own, all at once.
            rows: the examples to run; by default all.
            everywhere: whether the edits ask for all positions. Those that find the answer's by `at_answer`
                may be given that alone in the last layer: of bare weights this takes a fifth of the time.

        Raises:
            NotApplicable: the network lacks a hook that is edited.
        """
        config, names = self._config, [names] if isinstance(names, str) else names
        if (
            self._bare
            and config is not None
            and len(self.task.reads.answers) == 1
            and not (everywhere and edits)
            and all(config.passes(name, changed=False) for name in names)
            and all(config.passes(name, changed=True) for name, _ in edits)
        ):
            return self._short_pass(config, names, edits, rows)
        return self._pass(names, edits, rows, self.reads.positions)

    def _short_pass(
        self,
        config: NetworkConfig,
        names: Sequence[str],
        edits: Sequence[tuple[str, Callable[..., Tensor]]],
        rows: Int[Tensor, "m"] | None,
    ) -> dict[str, Float64[Tensor, "rows ..."]]:
        """`activations` of bare weights, without the hooked network."""
        inputs = self.task.inputs if rows is None else self.task.inputs[rows]
        if not names and not edits:
            logits = at_answer(config, self.task.reads, self.weights, inputs)["logits"]
            return {"logits": self._by_class(logits)}
        parts: dict[str, list[Tensor]] = {}

        def edit(hook: str, x: Tensor) -> Tensor:
            for name, change in edits:
                if name == hook:
                    x = change(x, hook=None)
            if hook in names:
                parts.setdefault(hook, []).append(self.at_answer(hook, x).clone())
            return x

        with torch.no_grad():
            for some in config.read(inputs, self.reads).split(_SHORT):
                logits = config.logits_through(self.weights, some, self.reads, edit)
                parts.setdefault("logits", []).append(logits)
        together = {name: torch.cat(values) for name, values in parts.items()}
        return {**together, "logits": self._by_class(together["logits"])}

    def gradient_by_embedding(
        self, rows: Int[Tensor, "m"], logits: Int[Tensor, "m"]
    ) -> Float64[Tensor, "m pos d_model"]:
        """The gradient of one logit of each of these examples, by its token, by what each position of the
        example is embedded as, before positions are added.

        Raises:
            NotApplicable: the network has no hook_embed.
        """
        tokens, each = self.task.inputs[rows], torch.arange(len(rows))
        if self._bare and self._config is not None and self._config.hook_names is not None:
            # Every place of every example has a row of its own in the embedding.
            table = self.weights["embed.W_E"][tokens.flatten()].requires_grad_()
            weights = {**self.weights, "embed.W_E": table}
            places = torch.arange(tokens.numel()).view_as(tokens)
            found = self._config.logits(weights, places, self.reads)[each, logits]
            (gradient,) = torch.autograd.grad(found.sum(), table)
            return gradient.view(*tokens.shape, -1)
        model, embedded = in_float64(self.model), []
        if "hook_embed" not in model.hook_dict:
            raise NotApplicable("the network has no hook hook_embed")

        def remember(tensor: Tensor, *, hook: object) -> Tensor:
            embedded.append(tensor.detach().requires_grad_())
            return embedded[0]

        with torch.enable_grad(), model.hooks(fwd_hooks=[("hook_embed", remember)]):
            found = model(tokens.to(self._device))[:, -1].cpu()[each, logits]
            if not embedded:
                raise NotApplicable("the network has no embedding")
            (gradient,) = torch.autograd.grad(found.sum(), embedded)
        return gradient.cpu()

    def logits_with(
        self, edits: Sequence[tuple[str, Callable[..., Tensor]]]
    ) -> Float64[Tensor, "n answer classes"]:
        """The logits of every answer that it can be asked of, of all classes, from one pass over the table
        with edits as in `activations`.

        Raises:
            NotApplicable: the network lacks a hook that is edited.
        """
        reads = self._sequence
        positions = tuple(reads.positions[reads.answers.index(answer)] for answer in self.answers)
        logits = self._pass((), edits, None, positions)["logits"]
        return logits[:, None] if logits.ndim == 2 else logits

    def _pass(
        self,
        names: Sequence[str],
        edits: Sequence[tuple[str, Callable[..., Tensor]]],
        rows: Int[Tensor, "m"] | None,
        positions: tuple[int, ...],
    ) -> dict[str, Float64[Tensor, "rows ..."]]:
        """`activations` at so many positions, with an axis for them behind the examples where there are
        several."""
        if unknown := sorted({name for name, _ in edits} - self._twin.hook_dict.keys()):
            raise NotApplicable(f"the network has no hook {unknown[0]}")
        parts: dict[str, list[Tensor]] = {}
        # With TransformerLens 4 a hook that is switched off refuses an edit; with 3 nothing comes of it.
        is_off = getattr(self._twin, "is_switched_off", lambda name: False)
        edits = [(name, edit) for name, edit in edits if not is_off(name)]
        inputs = self.task.inputs if rows is None else self.task.inputs[rows]
        from_layer: dict[str, int] = {}
        if rows is None and (first := self._first_layer([*names, *(name for name, _ in edits)])) is not None:
            inputs, from_layer = self._entering(first), {"start_at_layer": first}
        with torch.no_grad():
            for some in inputs.to(self._device).split(self._together):
                with self._twin.hooks(fwd_hooks=list(edits)):
                    logits, cache = self._twin.run_with_cache(
                        some, names_filter=lambda name: name in names, **from_layer
                    )
                assert isinstance(logits, Tensor)
                for name, value in (("logits", logits), *cache.items()):
                    values = by_position(name, value)
                    if (inside := self.inside_at(name)) is not None:
                        values = values[:, inside.position].unflatten(0, (len(some), -1))
                    elif not self.elsewhere(name):
                        at = self._along(name, values.shape[1], positions)
                        values = values[:, at].squeeze(1) if len(at) == 1 else values[:, at]
                    parts.setdefault(name, []).append(values.cpu())
        together = {name: torch.cat(values) for name, values in parts.items()}
        return {**together, "logits": self._by_class(together["logits"])}

    def _first_layer(self, hooks: Sequence[str]) -> int | None:
        """The layer at which a pass may begin that asks for these hooks alone, what enters there being kept:
        where that spares something, and the network takes it."""
        if self._config is None or not self._config.resumes or self.has_hooks_of_a_user or not hooks:
            return None
        prefixes = [block.prefix for block in self.blocks]
        of = [next((i for i, at in enumerate(prefixes) if hook.startswith(f"{at}.")), -1) for hook in hooks]
        width = len(self.weights["unembed.W_U"])
        too_large = self.task.n_inputs * self.reads.n_ctx * width * 8 > _LARGEST_KEPT
        first = min(of)
        return None if first < 0 or too_large or (first == 0 and self._inside is None) else first

    def _entering(self, layer: int) -> Float64[Tensor, "n pos d_model"]:
        """What enters a layer, of all examples; that of the layer asked for last is kept."""
        stream = self._streams.get(layer)
        if stream is None:
            with torch.no_grad():
                some = self.task.inputs.to(self._device).split(self._together)
                stream = torch.cat([self._twin(each, stop_at_layer=layer) for each in some])
            self._streams = {layer: stream}
        return stream

    def inside_at(self, hook: str) -> Inside | None:
        """The layers inside parts of an example that a hook is of: there every example has a row for each
        part; None where a hook is of layers whose rows are the examples."""
        return self._inside if self._inside is not None and hook.startswith(self._inside.prefix) else None

    def places(self, hook: str) -> range:
        """The positions that a hook has, a pattern as its queries."""
        some = None if self._config is None else self._config.places(hook, self.task.reads)
        return range(self.reads.n_ctx) if some is None else some

    def elsewhere(self, hook: str) -> bool:
        """Whether a hook has nothing at the position of an answer: it is inside parts of an example, or in a
        stack that reads no answer, such as an encoder."""
        return self.inside_at(hook) is not None or self.reads.positions[0] not in self.places(hook)

    def _along(self, hook: str, length: int, positions: Sequence[int]) -> list[int]:
        """Where these positions are along a hook that has so many."""
        places = self.places(hook)
        # A multilayer perceptron has one position, whatever the length of an example.
        return [position - places.start for position in positions] if length == len(places) else [-1]

    def at_answer(self, hook: str, x: Float64[Tensor, "rows ..."]) -> Float64[Tensor, "n ..."]:
        """What a hook has at the answer position: the query of patterns and scores, the position of all
        others. It shares memory. Of layers inside parts of an example what each part gives, with an axis for
        the parts behind that of the examples; of a stack that reads no answer what each of its positions
        gives, with an axis for them there."""
        x = by_position(hook, x)
        if (inside := self.inside_at(hook)) is not None:
            return x.unflatten(0, (-1, inside.parts)).select(2, inside.position)
        if self.elsewhere(hook):
            return x
        return x.select(1, self._along(hook, x.shape[1], self.reads.positions)[0])

    def _by_class(self, logits: Float64[Tensor, "*rows classes"]) -> Float64[Tensor, "*rows classes"]:
        """With the answer classes first, in their order: the logits themselves where they are so."""
        first = self.task.answer_tokens
        if torch.equal(first, torch.arange(self.task.n_answers)):
            return logits
        others = torch.ones(logits.shape[-1], dtype=torch.bool).index_fill_(0, first, False)
        return logits[..., torch.cat([first, others.nonzero().flatten()])]

    @property
    def _together(self) -> int:
        """How many examples run at once: all of them where a user's hook may look at the whole batch."""
        if self.has_hooks_of_a_user:
            return self.task.n_inputs
        return min(_MOST_TOGETHER, max(_FEWEST_TOGETHER, _POSITIONS // self.reads.n_ctx))

    @lazy
    def hooks(self) -> tuple[str, ...]:
        """The names of all its hooks."""
        names = self._config.hook_names if self._bare and self._config is not None else None
        return tuple(self.model.hook_dict if names is None else names)

    @property
    def has_hooks_of_a_user(self) -> bool:
        """Whether the network was handed over with hooks, which may look at the whole batch."""
        if self._bare:
            return False
        hooks = (handle for point in self._twin.hook_dict.values() for handle in point.fwd_hooks)
        return not all(handle.is_permanent for handle in hooks)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @lazy
    def cache(self) -> ActivationCache:
        """TransformerLens's ActivationCache over the whole table, all hooks and positions. Large: about 1.2
        GB for p = 113, d_mlp = 512."""
        with torch.no_grad():
            _, cache = self._twin.run_with_cache(self.task.inputs.to(self._device))
        return cache

    @property
    def is_normalised(self) -> bool:
        """Whether what leaves the last layer is normalised before it is unembedded."""
        if self._config is not None:
            return self._config.is_normalised
        return getattr(self.model.cfg, "normalization_type", None) is not None

    @property
    def act_fn(self) -> str:
        """The nonlinearity of the neurons: "relu", "gelu", "square" and so on."""
        return str(self._config.act_fn if self._config is not None else self.model.cfg.act_fn)

    @lazy
    def blocks(self) -> tuple[Block, ...]:
        """The layers, from the first to the last: the names of what is in them."""
        if self._config is not None:
            return self._config.blocks(self.task.reads)
        return blocks_of({name: weight.shape for name, weight in self._twin.named_parameters()})

    @lazy
    def heads(self) -> tuple[Heads, ...]:
        """The attentions of all layers, in the order of the layers."""
        return tuple(heads for block in self.blocks for heads in block.heads)

    @lazy
    def attentions(self) -> tuple[Heads, ...]:
        """Those of them that the position of an answer has: of an encoder-decoder the decoder's, to itself
        and to the encoder."""
        return tuple(heads for heads in self.heads if not self.elsewhere(heads.name("hook_z")))

    def layers_of(self, several: Sequence[Heads]) -> list[Any]:
        """What attentions are called on an axis of layers: by the number of the layer, or by its name where
        layers are of several stacks."""
        labels = [heads.label for heads in several]
        numbers = list(range(len(labels)))
        return numbers if labels == [f"L{number}" for number in numbers] else labels

    @property
    def n_layers(self) -> int:
        """The number of layers; 1 for a multilayer perceptron."""
        return len(self.blocks)

    @lazy
    def logits(self) -> Float64[Tensor, "n answers"]:
        """Logits at the answer position. Logits of tokens that are no answers are left out."""
        return self._at_answer["logits"][:, : self.task.n_answers]

    @lazy
    def neurons(self) -> Float64[Tensor, "n d_mlp"]:
        """MLP activations after the nonlinearity at the answer position, in the last layer.

        Raises:
            NotApplicable: the network has no MLP.
        """
        return self.neurons_of(self.n_layers - 1)

    @asks("view.neurons_of", layer=COUNT)
    def neurons_of(self, layer: int) -> Float64[Tensor, "n d_mlp"]:
        """The same in any layer, counted from 0."""
        if layer >= self.n_layers:
            raise UsageError(f"there is no layer {layer}: choose from 0 to {self.n_layers - 1}")
        name = self.blocks[layer].name("mlp.hook_post")
        if self.elsewhere(name):
            raise NotApplicable(f"no answer is read in layer {self.blocks[layer].label}")
        if name not in self._at_answer:
            raise NotApplicable("the network has no MLP")
        return self._at_answer[name]

    @lazy
    def number(self) -> Float64[Tensor, "n"]:
        """The number that every example is answered with.

        Raises:
            NotApplicable: the network answers with classes.
        """
        if "hook_number" not in self._at_answer:
            raise NotApplicable("the network answers with classes, not with a number")
        return self._at_answer["hook_number"][:, 0]

    @lazy
    def numbers_of_labels(self) -> Float64[Tensor, "n"]:
        """The number that every example is said to have.

        Raises:
            NotApplicable: labels are no numbers, or depend on the split, and that is not known.
        """
        known = [math.nan if number is None else number for number in self.reads.logit_numbers]
        if not known:
            raise NotApplicable(f"the answers of {self.task.name} are no numbers")
        return torch.tensor(known, dtype=torch.float64)[self.task.logit_of(self.labels)]

    @lazy
    def attention(self) -> Float64[Tensor, "layer head n pos"]:
        """How much the answer position attends to each position, per layer and head, for every example: of
        each of `attentions`, 0 where it cannot attend to.

        Raises:
            NotApplicable: the network has no attention.
        """
        if not all(block.n_heads for block in self.blocks):
            raise NotApplicable("the network has no attention")
        patterns = []
        for heads in self.attentions:
            pattern, keys = self._at_answer[heads.name("hook_pattern")], self.places(heads.name("hook_k"))
            behind = self.reads.n_ctx - keys.stop
            if keys.start or behind:
                pattern = torch.nn.functional.pad(pattern, (keys.start, behind))
            patterns.append(pattern.transpose(0, 1))
        return torch.stack(patterns)

    @lazy
    def W_E(self) -> Float64[Tensor, "p d_model"]:
        """The embedding of the elements, in their order; operator and "=" are left out.

        Where a and b have tables of their own (a multilayer perceptron may), the two stand side by side.
        """
        return torch.cat([self.weights[name][tokens].cpu() for name, tokens in self.embedding_rows], dim=1)

    @property
    def embedding_rows(self) -> list[tuple[str, Int[Tensor, "p"]]]:
        """Which rows of which parameter embed the elements, in their order: one for both operands, or one for
        a and one for b."""
        tokens = self.task.element_tokens
        if not len(tokens):
            raise NotApplicable("examples are no tokens, so the network has no embedding")
        if "embed.W_E" in self.weights:
            return [("embed.W_E", tokens)]
        if "embed_a.W_E" in self.weights:
            return [("embed_a.W_E", tokens), ("embed_b.W_E", tokens)]
        w_in = self.blocks[0].name("mlp.W_in") if self.blocks else ""
        if w_in not in self.weights:
            raise NotApplicable("the network has no embedding")
        return [(w_in, tokens), (w_in, len(self.weights[w_in]) // 2 + tokens)]

    @asks("view.with_weights", changed=WEIGHTS)
    def with_weights(self, changed: Weights) -> View:
        """The View of the same network with other values of some of its parameters, under their names. Hooks
        on it stay in force."""
        if self._bare:
            assert self._config is not None
            weights = {**self.weights, **changed}
            other = View.of_weights(self.task, self._config, weights, self.step, self.split)
        else:
            model = copy.deepcopy(self._twin)
            model.load_state_dict(changed, strict=False)
            other = View(self.task, model, self.step, self.split)
        return other if self.answer is None else other.at(self.answer)

    @asks("view.on", task=OTHER_EXAMPLES)
    def on(self, task: Task) -> View:
        """The View of the same network on other examples, which a task of its own holds; of these it is not
        known on which the network was trained. Hooks on it stay in force.

        Raises:
            UsageError: the network does not take them, or it is no task; a part of its own examples, such as
                "test", are those that `rows` gives.
        """
        if self._bare:
            assert self._config is not None
            other = View.of_weights(task, self._config, self.weights, self.step)
        else:
            other = View(task, self._twin, self.step)
        return other if self.answer is None else other.at(self.answer)

    @lazy
    def W_U(self) -> Float64[Tensor, "width classes"]:
        """The unembedding, with its columns in the order of the logits.

        Raises:
            NotApplicable: the network has none, or one column, for the number that it answers with.
        """
        readout = self.weights.get("unembed.W_U")
        if readout is None or readout.shape[-1] < self.reads.n_logits:
            raise NotApplicable("the network has no unembedding with a column for each answer")
        return self._by_class(readout.cpu())

    @lazy
    def W_L(self) -> Float64[Tensor, "d_mlp answers"]:
        """W_out W_U of the last layer: what each neuron adds to each logit.

        Raises:
            NotApplicable: the network has no MLP, or no column for each answer.
        """
        readout, last = self.W_U, self.blocks[-1]
        if not last.d_mlp:
            raise NotApplicable("the network has no MLP")
        if (w_out := self.weights.get(last.name("mlp.W_out"))) is not None:
            readout = w_out.cpu() @ readout
        return readout[:, : self.task.n_answers]

    @lazy
    def labels(self) -> Int[Tensor, "n"]:
        """The class that every example is said to be: the right answer where the task has no noise.

        Raises:
            NotApplicable: they depend on the split, and that is not known.
        """
        return self._column(self.task.labels(self.split)).clamp(min=0)

    @asks("view.rows", part=NAME)
    def rows(self, part: str, asked: Bool[Tensor, "n"] | None = None) -> Bool[Tensor, "n"]:
        """Which examples belong to a part of the sample: "all", "train", "test", or a group of the task; of
        those of which this answer is asked, or of others (`task.asked`: of which any is).

        Raises:
            NotApplicable: the split is not known.
            UsageError: there is no such part.
        """
        asked = self.asked if asked is None else asked
        if part == "all":
            return asked & (torch.arange(self.task.n_inputs) < self.task.n_representative)
        if part in self.groups:
            return self.groups[part] & asked
        if part not in ("train", "test"):
            has = ", ".join(self.parts)
            raise UsageError(
                f"{self.task.name} has no part {got(part)}{nearest(part, self.parts)}: it has {has}"
            )
        if self.split is None:
            raise NotApplicable("it is not known which examples the network was trained on")
        rows = self.split.train if part == "train" else self.split.test
        return torch.zeros_like(asked).index_fill_(0, rows, True) & asked

    @property
    def parts(self) -> list[str]:
        """The parts of the table that can be told apart."""
        parts = ["all"] if self.split is None else ["train", "test", "all"]
        return [*parts, *self.groups]

    @lazy
    def groups(self) -> dict[str, Bool[Tensor, "n"]]:
        """The groups of examples that the task tells apart, by name."""
        return self.task.groups_of(self.split)

    @asks("view.loss", logits=TENSOR)
    def loss(
        self,
        logits: Float64[Tensor, "rows answers"] | None = None,
        rows: Int[Tensor, "rows"] | None = None,
        against: Classes = "labels",
    ) -> Float64[Tensor, "rows"]:
        """Cross-entropy of every example in nats: of its own logits, or of others (for some rows only)."""
        logits = self.class_logits if logits is None else logits
        targets = self._classes_for(logits, against, rows)
        losses = []
        for some, target in zip(logits.split(_TOGETHER), targets.split(_TOGETHER), strict=True):
            # log(1 + Σ exp) over the wrong classes: in float64 too, log_softmax bottoms out (at 2.2e-16).
            wrong = (some - some.gather(1, target[:, None])).scatter_(1, target[:, None], -torch.inf)
            if float(wrong.max()) < LARGEST_EXPONENT:
                losses.append(wrong.exp_().sum(1).log1p_())
            else:
                losses.append(torch.nn.functional.softplus(wrong.logsumexp(1), threshold=50))
        return torch.cat(losses)

    @asks("view.correct", logits=TENSOR)
    def correct(
        self,
        logits: Float64[Tensor, "rows answers"] | None = None,
        rows: Int[Tensor, "rows"] | None = None,
        against: Classes = "labels",
    ) -> Bool[Tensor, "rows"]:
        """Whether the largest logit of every example is the label's, or the right answer's."""
        logits = self.class_logits if logits is None else logits
        return logits.argmax(1) == self._classes_for(logits, against, rows)

    def all_right(
        self, against: Classes = "labels", logits: Float64[Tensor, "n answer classes"] | None = None
    ) -> Bool[Tensor, "n"]:
        """Whether every answer of an example that is asked is right, of all that the View can be asked of: by
        its own logits, or by others, as `logits_with` gives them."""
        of_each = [None] * len(self.answers) if logits is None else logits.unbind(1)
        if len(self.answers) == 1:
            return self.correct(of_each[0], against=against)
        each = [self.at(answer) for answer in self.answers]
        right = [
            one.correct(given, against=against) | ~one.asked for one, given in zip(each, of_each, strict=True)
        ]
        return torch.stack(right).all(0)

    @lazy
    def decoded(self) -> Int[Tensor, "n answer"]:
        """The class of every answer of the task, whichever the View speaks of, where the network reads what
        it has answered so far in place of the right answers: greedily, the class of the largest logit.

        Raises:
            NotApplicable: the answers of the task are not read again.
        """
        if self._whole is not None:
            return self._whole.decoded
        written, first = self.task.written, torch.arange(self.task.n_answers)
        if written is None:
            raise NotApplicable(f"{self.task.name} has no answers that a network reads again")
        parts = self.task.inputs.split(self._together)
        if self._bare and torch.equal(self.task.answer_tokens, first):
            assert self._config is not None
            of, reads = self._config, self.task.reads
            return torch.cat([of.decode(self.weights, some, reads, written) for some in parts])
        return torch.cat([self._decoded_plainly(some, written) for some in parts])

    def _decoded_plainly(
        self, inputs: Int[Tensor, "n pos"], written: Int[Tensor, "classes"]
    ) -> Int[Tensor, "n answer"]:
        """The same by a pass of the network, its hooks included, for each answer."""
        inputs, given = inputs.clone(), []
        for position in self._sequence.positions:
            with torch.no_grad():
                logits = self._twin(inputs.to(self._device)).cpu()
            (at,) = self._along("logits", logits.shape[1], [position])
            given.append(self._by_class(logits[:, at])[:, : len(written)].argmax(1))
            if position + 1 < inputs.shape[1]:
                inputs[:, position + 1] = written[given[-1]]
        return torch.stack(given, dim=1)

    def squared_error(self) -> Float64[Tensor, "n"]:
        """The squared distance of every example's logits from its one-hot label, as a mean over classes."""
        logits = self.class_logits
        less_label = logits.scatter_add(1, self.labels[:, None], logits.new_full((len(logits), 1), -1.0))
        return less_label.square().mean(1)

    @lazy
    def probabilities(self) -> Float64[Tensor, "n answers"]:
        """The softmax of the logits, for every answer."""
        return self.class_logits.softmax(1)[:, : self.task.n_answers]

    def _classes_for(
        self, logits: Tensor, against: Classes, rows: Int[Tensor, "rows"] | None
    ) -> Int[Tensor, "rows"]:
        """The classes that logits are held against.

        Raises:
            UsageError: they are not of as many examples.
        """
        classes = self._classes(against, rows)
        if logits.ndim != 2 or len(logits) != len(classes):
            shape = [*logits.shape]
            raise UsageError(f"logits: needs a row for each of {len(classes):,} examples, got {shape}")
        return classes

    def _classes(self, against: Classes, rows: Int[Tensor, "rows"] | None) -> Int[Tensor, "rows"]:
        classes = self.labels if against == "labels" else self.targets
        return classes if rows is None else classes[rows]

    @property
    def class_logits(self) -> Float64[Tensor, "n classes"]:
        """Logits as the training loss sees them: those of tokens that are no answers included."""
        return self._at_answer["logits"]


_OF_ONE_ANSWER = {
    "_at_answer", "logits", "neurons", "number", "numbers_of_labels", "attention", "labels", "probabilities",
    "targets", "asked",
}  # fmt: skip
"""What a View keeps that is of one answer."""


def by_position(hook: str, x: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "rows pos ..."]:
    """What a hook has, with its positions, of patterns and scores those of the queries, behind the
    examples."""
    return x.movedim(2, 1) if hook.endswith(("hook_pattern", "hook_attn_scores")) else x


def view(model: HookedRootModule, task: Task, step: int | None = None, split: Split | None = None) -> View:
    """A View of a network in memory; no run directory is needed. Hooks on the network stay in force.

    Raises:
        UsageError: the network does not take this task's tokens.
    """
    return View(task, model, step, split)
