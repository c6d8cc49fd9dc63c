"""What is measured, replayed and drawn."""

from __future__ import annotations

from typing import Any
from unittest import mock

import grokinterp as gi
from grokinterp import controls
from grokinterp.measures import Hypothesis, digits_hypothesis
from grokinterp.measures.factors import pairs_of
from grokinterp.measures.hypotheses import _sites
from grokinterp.measures.matrices.failures import answers
from grokinterp.measures.waves.keys import chosen
from grokinterp.models import network_config
from grokinterp.replay import elsewhere, where_keys_differ
from grokinterp.replay.graduation import graduation

from .base import World, bare, mistake
from .runs import of_unknown_steps, thinned


def of_two_kinds(w: World) -> list[gi.Run]:
    """A transformer and an MLP, trained on one task."""
    return [w.train(), w.train(model={"kind": "mlp", "d_mlp": 16})]


PLAIN = {"d_model": 16, "n_heads": 2, "d_mlp": 16}


def untrained(name: str, model: dict[str, Any] | None = None, **parameters: Any) -> gi.View:
    """A network that is not trained, on a task."""
    task, config = gi.make_task(name, **parameters), network_config(PLAIN if model is None else model)
    return gi.View.of_weights(task, config, config.initial_weights(task.reads, 0), None, None)


def adder() -> gi.View:
    return controls.adder(2, examples=128, per_class=16)


def matrices() -> gi.View:
    model = {"kind": "encoder_decoder", "d_model": 16, "n_heads": 2, "d_mlp": 16}
    return untrained("eigenvalues", model, examples=32)


def images() -> gi.View:
    model = {"kind": "vision", "patch_size": 4, "d_model": 8, "n_heads": 2}
    return untrained("line_images", model, size=12, slopes=4, examples=64)


def of_irreps(irreps: list[str] | None = None) -> Any:
    """A measure of a network on D9 whose logits are made of four of its five representations."""
    with mock.patch("grokinterp.measures.groups.irreps.found_irreps", return_value=[0, 1, 2, 3]):
        return gi.measure(
            "restricted_loss.logit_irreps", untrained("group_composition", group="D9"), irreps=irreps
        )


def interchanged(**options: Any) -> Any:
    view = adder()
    return gi.interchange(view, digits_hypothesis(view.task), cases=10, **options)


ABLATED = [
    mistake(
        "a way of ablating that there is not",
        lambda w: gi.ablate(w.clock, "head", (0, 0), how="maen"),
        r"unknown way 'maen'; did you mean '(\w+)'",
        lambda w, m: gi.ablate(w.clock, "head", (0, 0), how=m[1]),
    ),
    mistake(
        "a part that there is not",
        lambda w: gi.ablate(w.clock, "heads", (0, 0)),
        r"unknown part 'heads'; did you mean '(\w+)'",
        lambda w, m: gi.ablate(w.clock, m[1], (0, 0)),
    ),
    mistake(
        "a neuron that there is not",
        lambda w: gi.ablate(w.clock, "neurons", (0, 10**6)),
        r"choose from (\d+) to (\d+)",
        lambda w, m: [gi.ablate(w.clock, "neurons", (0, int(at))) for at in m.groups()],
    ),
    mistake(
        "a layer that there is not",
        lambda w: gi.ablate(w.clock, "head", ("L00", 0)),
        r"no layer is called 'L00'; did you mean '(\w+)'",
        lambda w, m: gi.ablate(w.clock, "head", (m[1], 0)),
    ),
    mistake(
        "one frequency to ablate",
        lambda w: gi.ablate(w.clock, "frequencies"),
        r"needs a list of them, such as \[1, 2\]",
        lambda w, m: gi.ablate(w.clock, "frequencies", [1, 2]),
    ),
]

KEYS = [
    mistake(
        "the key frequencies of a network in which none stands out",
        lambda w: gi.measure("restricted_loss.logit_dirs", controls.lookup(11)),
        r"no frequency stands out: .*; (keys)= or (--keys) asks for some",
        lambda w, m: gi.measure("restricted_loss.logit_dirs", controls.lookup(11), **{m[1]: [1, 2]}),
        lambda w, m: w.cli(
            "analyze {} {} 1,2 --no-replay --measure loss --out {}", w.run.path, m[2], w.new()
        ),
    ),
    mistake(
        "keys that are a text",
        lambda w: bare(chosen)(w.clock, [1.5]),
        r"keys: needs a list of whole numbers, such as \[1, 2\]",
        lambda w, m: gi.measure("restricted_loss.logit_dirs", w.clock, keys=[1, 2]),
    ),
    mistake(
        "a frequency that there is not",
        lambda w: gi.measure("restricted_loss.logit_dirs", w.clock, keys=[9]),
        r"choose from (\d+) to (\d+)",
        lambda w, m: [gi.measure("restricted_loss.logit_dirs", w.clock, keys=[int(k)]) for k in m.groups()],
    ),
    mistake(
        "more key frequencies than have sets",
        lambda w: gi.measure("smallest_sufficient", controls.random_network(53), keys=list(range(1, 20))),
        r"give the (\d+) that matter as `(keys)`",
        lambda w, m: gi.measure("smallest_sufficient", controls.random_network(53), **{m[2]: [1, 2, 3]}),
    ),
]

OTHERS = [
    mistake(
        "features at a place that there is not",
        lambda w: gi.measure("dimension_reduction", images(), sites=["hook_embde"]),
        r"did you mean '([\w.]+)'",
        lambda w, m: gi.measure("dimension_reduction", images(), sites=[m[1]]),
    ),
    mistake(
        "a factor that there is not",
        lambda w: gi.measure("variance_by_factor.heads", adder(), factors=["x.tenz"]),
        r"has no factor 'x\.tenz'; did you mean '([\w.]+)'",
        lambda w, m: gi.measure("variance_by_factor.heads", adder(), factors=[m[1]]),
    ),
    mistake(
        "more factors than can be paired",
        lambda w: pairs_of([f"{i}.of_{i}" for i in range(20)]),
        r"pairs of factors are too many: name some",
        lambda w, m: pairs_of(["0.of_0", "1.of_1"]),
    ),
    mistake(
        "too few examples for a pair of factors",
        lambda w: gi.measure("variance_by_pair.logits", controls.adder(2, examples=16, per_class=0)),
        r"too few for the [\d,]+ combinations of .*: ask for more",
        lambda w, m: gi.measure("variance_by_pair.logits", controls.adder(2, examples=2048, per_class=0)),
    ),
    mistake(
        "representations that are nearly all there are",
        lambda w: of_irreps(),
        r"(irreps)= asks for some",
        lambda w, m: of_irreps(irreps=["dim 2 #1"]),
    ),
    mistake(
        "a representation that there is not",
        lambda w: of_irreps(irreps=["dim 22 #1"]),
        r"has no representation 'dim 22 #1'; did you mean '(.+?)'",
        lambda w, m: of_irreps(irreps=[m[1]]),
    ),
    mistake(
        "a criterion that there is not",
        lambda w: answers(matrices()).wrong("within 5"),
        r"there is no 'within 5'; did you mean '(.+?)'",
        lambda w, m: answers(matrices()).wrong(m[1]),
    ),
    mistake(
        "numbers of examples that have none",
        lambda w: gi.measure("probe.r2", adder()),
        r"no numbers are known of the examples of \w+: name the (factors)",
        lambda w, m: gi.measure("probe.r2", adder(), **{m[1]: ["sum.units"]}),
    ),
    mistake(
        "numbers of a factor that there is not",
        lambda w: gi.measure("probe.r2", adder(), factors=["sum.unitz"]),
        r"has no factor 'sum\.unitz'; did you mean '([\w.]+)'",
        lambda w, m: gi.measure("probe.r2", adder(), factors=[m[1]]),
    ),
]

HYPOTHESES = [
    mistake(
        "a hypothesis without sub-tasks",
        lambda w: gi.interchange(adder(), Hypothesis("mine", ())),
        r"it has no sub-task; give one at least",
        lambda w, m: gi.interchange(
            view := adder(), Hypothesis("mine", digits_hypothesis(view.task).subtasks[:1]), cases=10
        ),
    ),
    mistake(
        "a site without its position",
        lambda w: bare(_sites)(adder(), ["L0H1"]),
        r"is no node and position, such as \('(\w+)', (\d)\)",
        lambda w, m: interchanged(sites=[(m[1], int(m[2]))]),
    ),
    mistake(
        "a node that there is not",
        lambda w: interchanged(sites=[("L0H11", 5)]),
        r"the network has no node 'L0H11'; did you mean '(\w+)'",
        lambda w, m: interchanged(sites=[(m[1], 5)]),
    ),
    mistake(
        "sites that are no list",
        lambda w: bare(_sites)(controls.adder(2, examples=64, per_class=8), "L0H1"),
        r"sites: needs a list of nodes and positions, such as \[\('(\w+)', (\d)\)\]",
        lambda w, m: bare(_sites)(controls.adder(2, examples=64, per_class=8), [(m[1], int(m[2]))]),
    ),
]

REPLAYED = [
    mistake(
        "the final keys of a measure without keys",
        lambda w: gi.replay(w.run, ["gini.W_E@final_keys"], progress=False),
        r"([\w.]+) uses no key frequencies: ask for it without (@\w+)",
        lambda w, m: gi.replay(w.run, [m[1]], progress=False),
    ),
    mistake(
        "data of another format",
        lambda w: w.cli("replay {} --data {}", w.run.path, w.new(".xlsx")),
        r"written as (\.nc) .*, (\.parquet) .* or (\.csv) .*: end the name so",
        lambda w, m: [
            w.cli("replay {} --out {} --data {}", w.run.path, w.new(".html"), w.new(ending))
            for ending in m.groups()
        ],
    ),
]


def with_keys(w: World) -> gi.Run:
    """A run of one snapshot, of a network that has key frequencies."""
    return gi.record(w.clock.model, w.clock.task, 0, w.new())


def of_matrices(w: World) -> gi.Run:
    return gi.record((view := matrices()).model, view.task, 0, w.new(), config=view.model.config)


def replayed(w: World, *names: str) -> Any:
    return gi.replay(w.run, list(names), progress=False)


REPLAYED += [
    mistake(
        "thinning by phases that were not found",
        lambda w: thinned(w, w.run.path, "phases"),
        r"no phases were found .*: choose (every:10) .*, (log) .*, (log:50)",
        lambda w, m: [thinned(w, w.run.path, rule) for rule in m.groups()],
    ),
    mistake(
        "thinning by phases where steps are not known",
        lambda w: thinned(w, of_unknown_steps(w), "phases"),
        r"choose --keep (every:)N",
        lambda w, m: thinned(w, of_unknown_steps(w), m[1] + "2"),
    ),
    mistake(
        "what was not replayed",
        lambda w: graduation(replayed(w, "loss")),
        r"(picture\.right) was not replayed: give it to gi\.replay among the measures",
        lambda w, m: graduation(replayed(w, m[1])),
    ),
    mistake(
        "keys of measures that have none",
        lambda w: where_keys_differ(gi.replay(with_keys(w), ["loss"], progress=False)),
        r"replay one that takes keys",
        lambda w, m: where_keys_differ(
            gi.replay(with_keys(w), ["restricted_loss.logit_dirs"], progress=False)
        ),
    ),
    mistake(
        "a criterion of another task",
        lambda w: elsewhere(of_matrices(w), "semicircle", criterion="within 5", examples=16),
        r"there is no 'within 5'; did you mean '(.+?)'",
        lambda w, m: elsewhere(of_matrices(w), "semicircle", criterion=m[1], examples=16),
    ),
]
MEASURED = [*ABLATED, *KEYS, *OTHERS, *HYPOTHESES]

REPLAYED += [
    mistake(
        "runs grouped by a key that none has",
        lambda w: gi.compare(w.run, by="weight_decay"),
        r"no run has that key; did you mean '([\w.]+)'\?",
        lambda w, m: gi.compare(w.run, by=m[1]),
    ),
    mistake(
        "runs grouped by three keys",
        lambda w: gi.compare(w.run, by=["seed", "training.lr", "training.fraction"]),
        r"needs one or two; of a third, compare the runs of one value at a time",
        lambda w, m: gi.compare(w.run, by=["seed", "training.lr"]),
    ),
    mistake(
        "runs grouped by two keys of which each has one",
        lambda w: gi.compare(of_two_kinds(w), by=["model.n_heads", "model.embedding"]),
        r"no run has both of these keys; group by one of them",
        lambda w, m: gi.compare(of_two_kinds(w), by="model.embedding"),
    ),
    mistake(
        "runs of two tasks in one group",
        lambda w: gi.compare([w.train(), w.train(**{"task.p": 5})], by="training.lr"),
        r"different tasks \(.*\): give runs of one task, or group by ([\w.]+)",
        lambda w, m: gi.compare([w.train(), w.train(seed=1)], by="training.lr"),
        lambda w, m: gi.compare([w.train(), w.train(**{"task.p": 5})], by=m[1]),
    ),
]

REPORTED = [
    mistake(
        "keys of a task without frequencies",
        lambda w: gi.measure_all(adder(), measures=["loss"], keys=[1]),
        r"has no key frequencies: leave keys \(--keys\) out",
        lambda w, m: gi.measure_all(adder(), measures=["loss"]),
    ),
    mistake(
        "a comparison of what holds no run",
        lambda w: w.new().mkdir() or w.cli("compare {}", w.file("x").parent / "new_0"),
        r"holds no run, nor directories that do; give what `grokinterp train --out` made",
        lambda w, m: w.cli("compare {}", w.run.path),
    ),
    mistake(
        "a phase diagram of runs that are not grouped",
        lambda w: gi.compare(w.run).phase_diagram,
        r"not grouped: gi\.compare\(runs, by=\['training\.weight_decay'\]\) does it",
        lambda w, m: gi.compare(w.run, by=["training.weight_decay"]).phase_diagram,
    ),
    mistake(
        "circuits of two tasks",
        lambda w: gi.compare([w.train(), w.train(**{"task.p": 5})]).circuits,
        r"have no keys in common: give runs of one task",
        lambda w, m: gi.compare([w.train(), w.train(seed=1)]).circuits,
    ),
]
