"""What public functions are given, and names that nobody knows."""

from __future__ import annotations

from typing import Any

import torch

import grokinterp as gi
from grokinterp import controls
from grokinterp.measures import digits_hypothesis, operation_hypothesis
from grokinterp.replay import spikes
from grokinterp.runs.seeds import seeds_of

from .base import World, bare, mistake


class Own(torch.nn.Module):
    """A network without hooks, of the weights of another under names of its own."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, weight in weights.items():
            self.register_parameter(own_name(name), torch.nn.Parameter(weight.clone()))


class TransformerBridge(Own):
    """A network of TransformerLens 4, as far as a message looks at it."""


def own_name(name: str) -> str:
    """What such a network calls a weight."""
    return name.replace(".", "_")


AXES = {
    "embed.W_E": "vocab d_model",
    "pos_embed.W_pos": "pos d_model",
    "blocks.0.attn.W_Q": "head d_model d_head",
    "blocks.0.attn.W_K": "head d_model d_head",
    "blocks.0.attn.W_V": "head d_model d_head",
    "blocks.0.attn.W_O": "head d_head d_model",
    "blocks.0.mlp.W_in": "d_model d_mlp",
    "blocks.0.mlp.W_out": "d_mlp d_model",
    "blocks.0.mlp.b_in": "d_mlp",
    "blocks.0.mlp.b_out": "d_model",
    "unembed.W_U": "d_model out",
    **{f"blocks.0.attn.b_{part}": "head d_head" for part in "QKV"},
    "blocks.0.attn.b_O": "d_model",
    "unembed.b_U": "out",
}


def mapping_of(w: World) -> str:
    """A mapping of the names of `Own`."""
    names = [name for name in w.clock.weights if name in AXES]
    rows = [
        f'"{name.replace(".0.", ".{layer}.")}" = {{ key = "{own_name(name)}", axes = "{AXES[name]}" }}'
        for name in names
    ]
    return "\n".join(['doc = "mine"', 'tokens = "a b ="', "[model]", 'act_fn = "relu"', "[weights]", *rows])


def saved(w: World, weights: Any) -> Any:
    """A file of weights."""
    path = w.new(".pt")
    torch.save(weights, path)
    return path


def analysed(w: World, given: Any) -> None:
    """All that takes a View."""
    gi.measure_all(given, measures=["loss"])
    gi.analyze(given, measures=["loss"])
    gi.key_frequencies(given)


def looked_at(w: World, given: Any) -> None:
    """All that takes a run."""
    gi.analyze(given, measures=["loss"], with_replay=False)
    gi.replay(given, ["loss"], progress=False)
    given.view(-1)


def recorded(w: World, network: Any) -> gi.Run:
    """A run of a training loop."""
    return gi.record(network, w.view.task, 0, w.new())


def imported(w: World, file: Any, **options: Any) -> gi.Run:
    return gi.import_checkpoint(file, w.new(), believe=True, forensics=False, **options)


ARGUMENTS = [
    mistake(
        "names that are numbers",
        lambda w: gi.measure_all(w.view, measures=3),
        r"needs a list of names, such as \['(\w+)', '([\w.]+)'\]",
        lambda w, m: gi.measure_all(w.view, measures=list(m.groups())),
    ),
    mistake(
        "a step that is a text",
        lambda w: gi.analyze(w.run, step="last"),
        r"needs a whole number, such as 1000, or (-1) for the last",
        lambda w, m: w.run.view(int(m[1])),
    ),
    mistake(
        "steps that are a number",
        lambda w: gi.replay(w.run, ["loss"], 3),
        r"needs a list of whole numbers, such as \[0, 1000, -1\]",
        lambda w, m: gi.replay(w.run, ["loss"], [0, 10, -1], progress=False),
    ),
    mistake(
        "seeds that are a number",
        lambda w: bare(seeds_of)(1.5),
        r"needs text such as '([\d.]+)' or '([\d,]+)', or a list of whole numbers",
        lambda w, m: gi.train_many(w.config(), w.new(), seeds=m[2], workers=1, progress=False),
        lambda w, m: gi.train_many(w.config(), w.new(), seeds=[0], workers=1, progress=False),
    ),
    mistake(
        "a configuration that is a section",
        lambda w: gi.train({"task": {"name": "modular_addition"}}, w.new()),
        r"needs a TrainConfig, which gi\.TrainConfig\.preset\('(\w+)'\) or "
        r"gi\.TrainConfig\.from_toml\(text\) makes",
        lambda w, m: gi.TrainConfig.preset(m[1]),
        lambda w, m: gi.train(gi.TrainConfig.from_toml(w.config().to_toml()), w.new(), progress=False),
    ),
    mistake(
        "a run as a data set",
        lambda w: gi.tidy(w.run),
        r"needs a Dataset, which gi\.replay\(run\) gives",
        lambda w, m: gi.tidy(gi.replay(w.run, ["loss"], progress=False)),
    ),
    mistake(
        "a task that is a number",
        lambda w: bare(gi.view)(w.view.model, 3),
        r"needs the task of the network, got 3",
        lambda w, m: bare(gi.view)(w.view.model, {"name": "modular_addition", "p": 7}),
    ),
    mistake(
        "a task to import that is a number",
        lambda w: imported(w, saved(w, w.run.state_dict(-1)), task=3),
        r"needs a task, its name, or a section \[task\] such as \{'name': '(\w+)', 'p': 113\}",
        lambda w, m: imported(w, saved(w, w.run.state_dict(-1)), task={"name": m[1], "p": 7}),
        lambda w, m: imported(w, saved(w, w.run.state_dict(-1)), task=m[1]),
        lambda w, m: imported(w, saved(w, w.run.state_dict(-1)), task=w.run.task),
    ),
    mistake(
        "the name of a task where one is needed",
        lambda w: gi.record(w.view.model, "modular_addition", 0, w.new()),
        r"needs a task, which gi\.make_task\(name, \.\.\.\) makes",
        lambda w, m: gi.record(w.view.model, gi.make_task("modular_addition", p=7), 0, w.new()),
    ),
    mistake(
        "a network without its task",
        lambda w: gi.view(w.view.model),
        r"needs the task of the network, which gi\.make_task\(name, \.\.\.\) makes",
        lambda w, m: gi.view(w.view.model, gi.make_task("modular_addition", p=7)),
    ),
    mistake(
        "a text as a network",
        lambda w: gi.record("network", w.view.task, 0, w.new()),
        r"needs a hooked network, such as a HookedTransformer",
        lambda w, m: recorded(w, w.view.model),
    ),
    mistake(
        "a hypothesis that is a text",
        lambda w: gi.interchange(controls.adder(2, examples=64, per_class=8), "digits"),
        r"needs a Hypothesis, such as digits_hypothesis\(task\) of grokinterp\.measures",
        lambda w, m: gi.interchange(
            adder := controls.adder(2, examples=64, per_class=8), digits_hypothesis(adder.task), cases=20
        ),
    ),
    mistake(
        "a list as evaluations",
        lambda w: spikes([1, 2]),
        r"needs a DataFrame, such as run\.history",
        lambda w, m: spikes(w.run.history),
    ),
    mistake(
        "a dtype that is a text",
        lambda w: w.run.model(-1, "float32"),
        r"needs a dtype of torch, such as torch\.(float32)",
        lambda w, m: w.run.model(-1, getattr(torch, m[1])),
    ),
    mistake(
        "a hypothesis of digits, of a task that has none",
        lambda w: digits_hypothesis(w.view.task),
        r"needs a task of numbers written in digits, such as gi\.make_task\('(\w+)'\)",
        lambda w, m: digits_hypothesis(gi.make_task(m[1], n=2, examples=64, per_class=8)),
    ),
    mistake(
        "a hypothesis of two operands, of a name",
        lambda w: operation_hypothesis("modular_addition"),
        r"needs a task of two operands, such as gi\.make_task\('(\w+)'\)",
        lambda w, m: operation_hypothesis(gi.make_task(m[1])),
    ),
    mistake(
        "a part of the examples in place of others",
        lambda w: w.view.on("test"),
        r"needs a task of other examples, which gi\.make_task\(name, \.\.\.\) makes "
        r"\(view\.rows\('(test)'\) marks",
        lambda w, m: w.view.on(gi.make_task("modular_addition", p=7)),
        lambda w, m: w.view.loss()[w.view.rows(m[1])],
    ),
    mistake(
        "arguments without their names",
        lambda w: gi.make_task("modular_addition", 7),
        r"too many positional arguments: write gi\.make_task\(name, name=value, \.\.\.\)",
        lambda w, m: gi.make_task("modular_addition", p=7),
    ),
]

INSTEAD = [
    mistake(
        "a View as a run",
        lambda w: gi.tidy(w.view),
        r"got a View: gi\.measure_all\(view\), gi\.analyze\(view\) and gi\.key_frequencies\(view\) take one",
        lambda w, m: analysed(w, w.view),
    ),
    mistake(
        "a run as a configuration",
        lambda w: gi.train(w.run, w.new()),
        r"got a run: gi\.analyze\(run\), gi\.replay\(run\) and run\.view\(-1\) take it",
        lambda w, m: looked_at(w, w.run),
    ),
    mistake(
        "a task as a run",
        lambda w: gi.tidy(w.view.task),
        r"got a task: gi\.view\(network, task\) takes it beside a network",
        lambda w, m: gi.view(w.view.model, w.view.task),
    ),
    mistake(
        "a network as a run",
        lambda w: gi.tidy(w.view.model),
        r"got a network: gi\.view\(network, task\) makes a View of it, gi\.record a run of a training loop",
        lambda w, m: gi.view(w.view.model, w.view.task),
        lambda w, m: gi.replay(recorded(w, w.view.model), ["loss"], progress=False),
    ),
    mistake(
        "a network of one's own, without hooks",
        lambda w: gi.view(Own(w.clock.weights), w.clock.task),
        r"without hooks: gi\.import_checkpoint\(file, out=\.\.\., layout=a mapping of its weights' names\) "
        r"makes a run of its state_dict\(\) in a file",
        lambda w, m: imported(
            w, saved(w, Own(w.clock.weights).state_dict()), layout=w.file(mapping_of(w), ".toml")
        ),
    ),
    mistake(
        "a network of TransformerLens 4",
        lambda w: gi.view(TransformerBridge(w.clock.weights), w.clock.task),
        r"save its state_dict\(\) and import that with a mapping, as docs/import\.md shows",
        lambda w, m: imported(
            w,
            saved(w, TransformerBridge(w.clock.weights).state_dict()),
            layout=w.file(mapping_of(w), ".toml"),
        ),
    ),
    mistake(
        "weights alone",
        lambda w: gi.view(w.view.model.state_dict(), w.view.task),
        r"load them into their network and give gi\.view\(network, task\), or save them and make them a run "
        r"with gi\.import_checkpoint\(file, out=\.\.\.\)",
        lambda w, m: (
            w.run.model(0).load_state_dict(w.view.model.state_dict()) and gi.view(w.run.model(0), w.view.task)
        ),
        lambda w, m: gi.import_checkpoint(saved(w, w.clock.weights), out=w.new(), forensics=False),
    ),
    mistake(
        "a configuration as a run",
        lambda w: gi.tidy(w.config()),
        r"got a configuration: gi\.train\(config, out=\.\.\.\) makes a run of it",
        lambda w, m: gi.replay(gi.train(w.config(), out=w.new(), progress=False), ["loss"], progress=False),
    ),
    mistake(
        "several runs as one",
        lambda w: gi.tidy([w.run, w.run]),
        r"got several: give one, or all of them to gi\.compare",
        lambda w, m: gi.replay(w.run, ["loss"], progress=False),
        lambda w, m: gi.compare([w.run, w.train()]),
    ),
    mistake(
        "a run with a task",
        lambda w: gi.analyze(w.run, w.view.task),
        r"has its own task and split: leave them out",
        lambda w, m: gi.analyze(w.run, measures=["loss"], with_replay=False),
    ),
    mistake(
        "a network to analyse without its task",
        lambda w: gi.analyze(w.view.model),
        r"needs the task of a network: give gi\.analyze\(network, task\)",
        lambda w, m: gi.analyze(w.view.model, w.view.task, measures=["loss"]),
    ),
]

NAMES = [
    mistake(
        "what is no key to group runs by",
        lambda w: gi.compare(w.run, by=3),
        r"needs a key of the configuration, or a list of one or two, such as \['(training\.weight_decay)'\]",
        lambda w, m: gi.compare(w.run, by=[m[1]]),
    ),
    mistake(
        "an unknown measure",
        lambda w: gi.measure("gini.W_EE", w.view),
        r"did you mean '([\w.]+)'",
        lambda w, m: gi.measure(m[1], w.view),
    ),
    mistake(
        "a measure that nothing is like",
        lambda w: gi.measure("xyzzy", w.view),
        r"unknown measure 'xyzzy'; `grokinterp (list measures)` has the \d+ that there are",
        lambda w, m: w.cli(m[1]),
    ),
    mistake(
        "an unknown key",
        lambda w: w.config(**{"training.stepz": 3, "training.warmupp": 3}),
        r"unknown key '[\w.]+'; did you mean '([\w.]+)'",
        lambda w, m: w.config(**{f"training.{m[1]}": 3}),
    ),
    mistake(
        "a part that there is not",
        lambda w: w.view.rows("tests"),
        r"did you mean '(\w+)'\?: it has ([\w, ]+)",
        lambda w, m: w.view.rows(m[1]),
        lambda w, m: [w.view.rows(part) for part in m[2].split(", ")],
    ),
    mistake(
        "a file of measures that there is not",
        lambda w: w.cli("analyze {} --with {}", w.run.path, w.new(".py")),
        r"give a Python file that registers measures \(docs/extending\.md\)",
        lambda w, m: w.cli(
            "analyze {} --with {} --no-replay --measure {} --out {}",
            w.run.path,
            measures(w, "first"),
            "first.weights",
            w.new(),
        ),
    ),
    mistake(
        "a file that registers nothing",
        lambda w: w.cli("analyze {} --with {}", w.run.path, w.file("x = 3", ".py")),
        r"registers nothing: put @register_measure\(\.\.\.\) of grokinterp before a function of a view",
        lambda w, m: w.cli(
            "analyze {} --with {} --no-replay --measure {} --out {}",
            w.run.path,
            measures(w, "second"),
            "second.weights",
            w.new(),
        ),
    ),
]


def measures(w: World, name: str) -> Any:
    """A file of one's own that registers a measure."""
    return w.file(
        "from grokinterp import register_measure\n\n"
        f'@register_measure("{name}.weights", unit="1", ref="mine")\n'
        "def weights(view):\n"
        '    "How many weights there are."\n'
        "    return float(len(view.weights))\n",
        ".py",
    )


def of_other_sizes(p: int) -> Any:
    """A HookedTransformer of one task, with the task of another size."""
    return gi.view(controls.random_network(7).model, gi.make_task("modular_addition", p=p))


def of_a_kind(w: World, p: int) -> Any:
    """A perceptron of one task, with the task of another size."""
    return gi.view(controls.gromov(7, 24).model, gi.make_task("modular_addition", p=p))


VIEWS = [
    mistake(
        "a network of another task",
        lambda w: of_other_sizes(5),
        r"the network takes .* needs .*: give the task that it was trained on",
        lambda w, m: of_other_sizes(7),
    ),
    mistake(
        "a network of a kind, of another task",
        lambda w: of_a_kind(w, 5),
        r"give the task that it was trained on",
        lambda w, m: gi.view(controls.gromov(7, 24).model, controls.gromov(7, 24).task),
    ),
    mistake(
        "a layer that there is not",
        lambda w: w.view.neurons_of(3),
        r"there is no layer 3: choose from (\d) to (\d)",
        lambda w, m: [w.view.neurons_of(int(layer)) for layer in m.groups()],
    ),
]

API = [*ARGUMENTS, *INSTEAD, *NAMES, *VIEWS]
