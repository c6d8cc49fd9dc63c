"""Networks: what each kind reads, and its sizes."""

from __future__ import annotations

from typing import Any

import torch

import grokinterp as gi
from grokinterp.models import KINDS, network_config
from grokinterp.models.base import lens_classes
from grokinterp.models.hooked import HookedTransformer
from grokinterp.tasks import Reads

from .base import World, mistake

ADDITION = {"name": "modular_addition", "p": 5}
DIGITS = {"name": "digit_addition", "n": 2, "examples": 32, "per_class": 4}
IMAGES = {"name": "line_images", "size": 12, "slopes": 4, "examples": 32}
APART = Reads((4,), 5, ("a", "x", "b", "y"), ("first", "second"), (1, 3), 5, 5, "mine")
AT_ONCE = Reads((2,), 5, ("a", "b"), ("first", "second"), (0, 1), 5, 5, "mine")


def of_image(*answers: str) -> Reads:
    """What is asked of an image."""
    return Reads((12, 12), 0, ("image",), answers, (0,) * len(answers), 5, 5, "mine")


def shapes(task: dict[str, Any], **model: Any) -> Any:
    """The shapes of a network for a task."""
    return network_config(model).shapes(gi.make_task(**task).reads)


def some_other_kind(task: dict[str, Any], kind: str) -> str:
    """A kind other than this that is a network for the task."""
    for other in KINDS:
        if other != kind:
            try:
                shapes(task, kind=other)
            except gi.GrokinterpError:
                continue
            return other
    raise AssertionError(f"no kind of network is one for {task}")


def another_kind(name: str, task: dict[str, Any], says: str, **model: Any) -> Any:
    """A kind of network that is none for a task: another is."""
    return mistake(
        name,
        lambda w: shapes(task, **model),
        rf"{says}.*: choose another kind",
        lambda w, m: some_other_kind(task, model["kind"]),
    )


def two_stacks(n: int = 2) -> tuple[Any, Any, gi.Task]:
    """An encoder and a decoder that are not trained, their weights, and the digits that they add."""
    task, config = (
        gi.make_task(**{**DIGITS, "n": n}),
        network_config({"kind": "encoder_decoder", "d_model": 16}),
    )
    return config, config.initial_weights(task.reads, 0), task


def decoded(n_network: int, n_task: int) -> Any:
    """What a network for numbers of so many digits writes of numbers of others."""
    (config, weights, _), (_, _, task) = two_stacks(n_network), two_stacks(n_task)
    return config.decode(weights, task.inputs, task.reads, torch.arange(10))


def computed(n_network: int, n_task: int) -> Any:
    """What the hooked network for numbers of so many digits gives of numbers of others."""
    (config, weights, mine), (_, _, task) = two_stacks(n_network), two_stacks(n_task)
    return config.hooked(mine.reads, weights)(task.inputs)


KINDS_FOR_TASKS = [
    another_kind("a perceptron of digits", DIGITS, "reads the operands a and b", kind="mlp"),
    another_kind("an encoder of images", IMAGES, "reads tokens", kind="encoder_decoder"),
    mistake(
        "several answers about an image",
        lambda w: network_config({"kind": "vision", "patch_size": 4}).shapes(of_image("first", "second")),
        r"gives one answer, and mine asks for 2 about an array: make a task of each",
        lambda w, m: [
            network_config({"kind": "vision", "patch_size": 4}).shapes(of_image(answer))
            for answer in ("first", "second")
        ],
    ),
    mistake(
        "an encoder of answers apart from one another",
        lambda w: network_config({"kind": "encoder_decoder"}).shapes(APART),
        r"writes its answers one behind the other up to the last position, .*: choose another kind",
        lambda w, m: network_config({"kind": "transformer"}).shapes(APART),
    ),
    mistake(
        "an encoder of no question",
        lambda w: network_config({"kind": "encoder_decoder"}).shapes(AT_ONCE),
        r"an answer is read at the first position: choose another kind",
        lambda w, m: network_config({"kind": "transformer"}).shapes(AT_ONCE),
    ),
    another_kind("a vision transformer of tokens", ADDITION, "reads arrays of numbers", kind="vision"),
]

SIZES = [
    mistake(
        "logits of a network that gives a number",
        lambda w: shapes({"name": "plain_division"}, kind="mlp", readout="number", d_vocab_out=2000),
        r"model\.(d_vocab_out): a network that answers with a number has none: leave it out",
        lambda w, m: shapes({"name": "plain_division"}, kind="mlp", readout="number"),
    ),
    mistake(
        "heads that do not divide the stream",
        lambda w: network_config({"n_heads": 3, "d_model": 16}),
        r"(\d+) heads do not divide d_model (\d+): change one of them, or set (d_head)",
        lambda w, m: shapes(ADDITION, n_heads=2, d_model=16),
        lambda w, m: shapes(ADDITION, n_heads=3, d_model=18),
        lambda w, m: shapes(ADDITION, n_heads=3, d_model=16, **{m[3]: 4}),
    ),
    mistake(
        "heads inside patches that do not divide their stream",
        lambda w: network_config(
            {"kind": "vision", "patch_size": 4, "local_layers": 1, "local_heads": 3, "local_d_model": 16}
        ),
        r"(\w+) do not divide (\w+) \d+: change one of them",
        lambda w, m: shapes(IMAGES, kind="vision", patch_size=4, local_layers=1, **{m[1]: 2, m[2]: 16}),
        lambda w, m: shapes(IMAGES, kind="vision", patch_size=4, local_layers=1, **{m[1]: 3, m[2]: 18}),
    ),
    mistake(
        "layers inside patches of one pixel",
        lambda w: network_config({"kind": "vision", "patch_size": 1, "local_layers": 1}),
        r"has nothing to attend to: set (\w+)",
        lambda w, m: shapes(IMAGES, kind="vision", local_layers=1, **{m[1]: 4}),
    ),
    mistake(
        "other logits than tokens where both have one matrix",
        lambda w: shapes(ADDITION, tied=True, d_vocab_out=5),
        r"model\.(tied): .* so there are 6 logits, one of each token, and 5 are asked for: leave it out",
        lambda w, m: shapes(ADDITION, d_vocab_out=5),
    ),
    mistake(
        "patches that do not divide an image",
        lambda w: shapes(IMAGES, kind="vision", patch_size=5),
        r"5 does not divide 12, .*: choose ([\d, ]+)",
        lambda w, m: [shapes(IMAGES, kind="vision", patch_size=int(side)) for side in m[1].split(", ")],
    ),
]


def hooked(switch: str = "") -> Any:
    """What each head adds to the stream, seen by a hook."""
    task, config = gi.make_task(**ADDITION), network_config({"d_model": 8, "n_heads": 2, "d_mlp": 8})
    model = HookedTransformer(
        lens_classes()[1].from_dict({**config.lens_settings(task.reads), "device": "cpu"})
    )
    if switch:
        getattr(model, switch)(True)
    seen: list[torch.Tensor] = []
    hook = "blocks.0.attn.hook_result", lambda result, hook: seen.append(result)
    model.run_with_hooks(task.inputs, fwd_hooks=[hook])
    assert seen
    return seen


def started(w: World, before: dict[str, Any], then: dict[str, Any]) -> gi.Run:
    """A run from the weights of another."""
    return gi.train(w.config(**then), w.new(), start=w.train(**before), progress=False)


UNTIED = {"model.d_vocab_out": 8}
"""As many logits as tokens, of a matrix of their own."""
STARTS = [
    mistake(
        "one matrix of tokens and logits, from two",
        lambda w: started(w, UNTIED, {"model.tied": True}),
        r"leave (model\.tied) out, or start from a network that has it",
        lambda w, m: started(w, UNTIED, UNTIED),
        lambda w, m: started(w, {m[1]: True}, {m[1]: True}),
    ),
]


def without_numbers(w: World) -> Any:
    """A network of which there are shapes alone."""
    return torch.nn.Module.to(w.run.model(-1), "meta")


def loaded(network: Any, weights: Any) -> Any:
    network.load_state_dict(weights)
    return network


CALLED = [
    mistake(
        "a hook that is switched off",
        lambda w: hooked(),
        r"is switched off: call model\.(set_\w+)\(True\) first",
        lambda w, m: hooked(m[1]),
    ),
    mistake(
        "more answers than a decoder has positions",
        lambda w: decoded(2, 3),
        r"the decoder has (\d+) positions and is asked for \d+ tokens: ask for no more",
        lambda w, m: decoded(2, 2),
    ),
    mistake(
        "tokens of another task",
        lambda w: computed(2, 3),
        r"give examples of the task that the network was trained on",
        lambda w, m: computed(2, 2),
    ),
    mistake(
        "a network on the meta device",
        lambda w: gi.view(without_numbers(w), w.view.task),
        r"load its weights into one that was made on the CPU",
        lambda w, m: gi.view(loaded(w.run.model(0), w.run.model(-1).state_dict()), w.view.task),
    ),
]

MODELS = [*CALLED, *STARTS, *KINDS_FOR_TASKS, *SIZES]
