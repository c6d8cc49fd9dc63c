"""What measures say of a network does not depend on how it is written down, but for those that say so."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import grokinterp as gi
from grokinterp import controls
from grokinterp.errors import NotApplicable
from grokinterp.measures.base import GAUGES, measure
from grokinterp.models import MLPConfig, ModelConfig, NetworkConfig, VisionConfig, Weights
from grokinterp.tasks import Split, Task, make_task, split

P = 7
SMALL = {"d_model": 12, "n_heads": 2, "d_head": 6, "d_mlp": 20}


def noisy(weights: Weights, size: float) -> Weights:
    """Weights that are like no others: no two directions of them are equally large."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: w.double() + size * torch.randn(w.shape, generator=generator, dtype=torch.float64)
        for name, w in weights.items()
    }


Made = tuple[Task, NetworkConfig, Weights]


def clock() -> Made:
    view = controls.clock(P, (1, 2), 5.0)
    return view.task, ModelConfig(d_model=15, n_heads=2, d_head=4, d_mlp=2 * P * P), noisy(view.weights, 0.02)


def pizza() -> Made:
    view = controls.pizza(P, (1, 3), 5.0)
    config = ModelConfig(d_model=8, n_heads=1, d_head=4, d_mlp=2 * P, attention_mixing=0)
    return view.task, config, noisy(view.weights, 0.02)


def untrained(**model: int) -> Made:
    task, config = make_task("modular_addition", p=P), ModelConfig(**{**SMALL, **model})
    return task, config, noisy(config.initial_weights(task.reads, 0), 0.3)


def perceptron() -> Made:
    task, config = make_task("modular_addition", p=P), MLPConfig(d_model=8, d_mlp=24, biases=True)
    return task, config, noisy(config.initial_weights(task.reads, 0), 0.3)


def noisy_labels() -> Made:
    _, config, weights = clock()
    return make_task("modular_addition", p=P, noise={"kind": "uniform", "share": 0.3}), config, weights


def digits() -> Made:
    task = make_task("digit_addition", n=2, answer="tens", examples=400, per_class=10)
    config = ModelConfig(d_model=16, n_heads=2, d_head=8, d_mlp=24)
    return task, config, noisy(config.initial_weights(task.reads, 0), 0.3)


def points() -> Made:
    task, config = make_task("point_slope", n=3), ModelConfig(**SMALL)
    return task, config, noisy(config.initial_weights(task.reads, 0), 0.3)


def images() -> Made:
    task = make_task("line_images", size=8, slopes=4, examples=90)
    config = VisionConfig(patch_size=4, **SMALL, normalization="none")
    return task, config, noisy(config.initial_weights(task.reads, 0), 0.3)


def quotients() -> Made:
    task = make_task("plain_division", p=P)
    config = MLPConfig(d_model=8, d_mlp=24, biases=True, readout="number")
    return task, config, noisy(config.initial_weights(task.reads, 0), 0.3)


def matrices(name: str, n: int) -> Made:
    """Whatever it is asked, it gives the answer that is right most often."""
    task = make_task(name, n=n, examples=120)
    config = ModelConfig(d_model=12, n_heads=2, d_head=6, d_mlp=20)
    weights = {name: 0.1 * w for name, w in config.initial_weights(task.reads, 0).items()}
    answers = task.sample.answers
    right = [int(task.right(one.expand_as(answers))["within 5 %"].sum()) for one in answers[:100]]
    best = answers[right.index(max(right))]
    for i, (position, given) in enumerate(zip(task.reads.positions, best.tolist(), strict=True)):
        weights["pos_embed.W_pos"][position, i] = 10
        weights["unembed.W_U"][i, given] = 10
    return task, config, noisy(weights, 0.02)


MADE: dict[str, Callable[[], Made]] = {
    "clock": clock,
    "pizza": pizza,
    "one layer": untrained,
    "two layers": lambda: untrained(n_layers=2),
    "perceptron": perceptron,
    "noisy labels": noisy_labels,
    "digits": digits,
    "points": points,
    "images": images,
    "quotients": quotients,
    "matrices": lambda: matrices("eigenvalues", 2),
    "vectors": lambda: matrices("eigenvectors", 1),
}


def haar(size: int, generator: torch.Generator) -> Tensor:
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


def _stream(weights: Weights) -> bool:
    return "blocks.0.attn.W_O" in weights


def rotation(w: Weights, generator: torch.Generator) -> Weights:
    """The residual stream; of a perceptron the embedding of each operand."""
    turned = dict(w)
    if not _stream(w):
        halves = w["blocks.0.mlp.W_in"].chunk(2)
        turns = [haar(len(half), generator) for half in halves]
        turned |= {
            f"embed_{word}.W_E": w[f"embed_{word}.W_E"] @ turn for word, turn in zip("ab", turns, strict=True)
        }
        return turned | {
            "blocks.0.mlp.W_in": torch.cat([turn.T @ half for turn, half in zip(turns, halves, strict=True)])
        }
    turn = haar(w["embed.W_E"].shape[1], generator)
    for name, weight in w.items():
        if name.endswith(("W_E", "W_pos", "cls_token", "W_O", "b_O", "W_out", "b_out")):
            turned[name] = weight @ turn
        elif name.endswith(("W_Q", "W_K", "W_V", "W_in", "W_U")):
            turned[name] = turn.T @ weight
    return turned


def heads(w: Weights, generator: torch.Generator) -> Weights:
    changed = dict(w)
    for layer in range(sum(name.endswith("attn.W_V") for name in w)):
        at = f"blocks.{layer}.attn."
        n, _, d = w[at + "W_V"].shape
        for there, back in (("V", "O"), ("Q", "K")):
            mixed = torch.stack(
                [
                    haar(d, generator) * (0.5 + torch.rand(d, generator=generator, dtype=torch.float64))
                    for _ in range(n)
                ]
            )
            inverse = torch.linalg.inv(mixed)
            changed[at + f"W_{there}"] = w[at + f"W_{there}"] @ mixed
            changed[at + f"b_{there}"] = torch.einsum("hd,hde->he", w[at + f"b_{there}"], mixed)
            if back == "O":
                changed[at + "W_O"] = inverse @ w[at + "W_O"]
            else:
                changed[at + "W_K"] = w[at + "W_K"] @ inverse.mT
                changed[at + "b_K"] = torch.einsum("hd,hed->he", w[at + "b_K"], inverse)
    return changed


def of_neurons(w: Weights, change: Callable[[Tensor, int], Tensor]) -> Weights:
    """Changes every layer's neurons: what they read, with power 1, and what they write, with power −1; the
    neurons come last."""
    changed = dict(w)
    for layer in range(sum(name.endswith("mlp.W_in") for name in w)):
        at = f"blocks.{layer}.mlp."
        out = at + "W_out" if at + "W_out" in w else "unembed.W_U"
        for name in (at + "W_in", at + "b_in"):
            changed[name] = change(w[name], 1)
        changed[out] = change(w[out].T, -1).T
    return changed


def order(w: Weights, generator: torch.Generator) -> Weights:
    return of_neurons(w, lambda weight, power: weight[..., new_order(weight.shape[-1])])


def new_order(n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(5))


def scale(w: Weights, generator: torch.Generator) -> Weights:
    sizes = 0.5 + 2 * torch.rand(w["blocks.0.mlp.W_in"].shape[-1], generator=generator, dtype=torch.float64)
    return of_neurons(w, lambda weight, power: weight * sizes**power)


def shift(w: Weights, generator: torch.Generator) -> Weights:
    added = torch.randn(w["unembed.W_U"].shape[0], 1, generator=generator, dtype=torch.float64)
    return w | {"unembed.W_U": w["unembed.W_U"] + added, "unembed.b_U": w["unembed.b_U"] + 1.5}


CHANGES = {"rotation": rotation, "heads": heads, "order": order, "scale": scale, "shift": shift}


@functools.cache
def views(network: str) -> dict[str, gi.View]:
    """The network as it is, under "", and written down otherwise, by what was changed."""
    task, config, weights = MADE[network]()
    known = split(task.n_representative, 0.5)
    changed = {
        name: change(weights, torch.Generator().manual_seed(1))
        for name, change in CHANGES.items()
        if (_stream(weights) or name != "heads") and not (config.gives_number and name == "shift")
    }
    return {name: _seen(task, config, w, known) for name, w in {"": weights, **changed}.items()}


def _seen(task: Task, config: NetworkConfig, weights: Weights, known: Split) -> gi.View:
    return gi.View.of_weights(task, config, weights, 0, known)


def numbers(value: object, reorder: bool = False) -> np.ndarray:
    """A value as plain numbers; a neuron of the network whose neurons changed places stands where it was."""
    if isinstance(value, float):
        return np.array(value)
    found = value.values.astype(float)
    if reorder and "neuron" in value.dims:
        axis = value.dims.index("neuron")
        found = np.take(found, new_order(found.shape[axis]).argsort().numpy(), axis)
    return found


@functools.cache
def dependences(network: str) -> dict[str, set[str]]:
    """On which changes each measure that applies depends, by more than 1e-8 of its largest value."""
    found = {}
    for name, known in gi.MEASURES.items():
        try:
            before = numbers(known(views(network)[""]))
        except NotApplicable:
            continue
        found[name] = set()
        for change, view in views(network).items():
            after = numbers(known(view), reorder=change == "order")
            if not np.allclose(
                before,
                after,
                rtol=0,
                atol=1e-8 * max(np.nanmax(np.abs(before), initial=0), 1e-9),
                equal_nan=True,
            ):
                found[name].add(change)
    return found


@pytest.mark.parametrize("network", MADE)
def test_the_changes_change_nothing_that_the_network_does(network):
    before, *others = (view.logits.log_softmax(1) for view in views(network).values())
    for other in others:
        torch.testing.assert_close(other, before, rtol=0, atol=1e-11 * float(before.abs().max()))


@pytest.mark.parametrize("network", MADE)
def test_a_measure_depends_on_nothing_but_what_it_says(network):
    said = {name: set(gi.MEASURES[name].gauge) for name in dependences(network)}
    assert {
        name: found - said[name] for name, found in dependences(network).items() if found - said[name]
    } == {}


def test_what_a_measure_says_that_it_depends_on_is_seen():
    """On some network: it is not said for nothing. An accuracy need not show what its loss does."""
    seen: dict[str, set[str]] = {}
    for network in MADE:
        for name, found in dependences(network).items():
            seen.setdefault(name, set()).update(found)
    # An encoder-decoder normalises behind each part, so it is in none of the bases that are changed here.
    assert set(seen) == set(gi.MEASURES) - {"attention.encoder"}, (
        "a measure applies to none of the networks: add one"
    )
    said = {
        name: set(known.gauge) - seen[name] - seen[name.replace("_accuracy.", "_loss.")]
        for name, known in gi.MEASURES.items()
        if name in seen
    }
    assert {name: unseen for name, unseen in said.items() if unseen} == {}


@pytest.mark.parametrize("network", [name for name in MADE if name not in ("perceptron", "quotients")])
@pytest.mark.parametrize("what", ["mlp", "attention", "skip.attention", "skip.into_mlp", "skip.mlp"])
@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
def test_the_controls_of_an_ablation_turn_with_the_network(network, what, how):
    first, *others = (gi.ablate(view, what, how=how, draws=3) for view in views(network).values())
    losses = [control.loss["all"] for control in first.controls]
    for other in others:
        assert other.after.loss["all"] == pytest.approx(first.after.loss["all"], rel=1e-8)
        assert [control.loss["all"] for control in other.controls] == pytest.approx(losses, rel=1e-7)
    if not what.startswith(
        "skip"
    ):  # at the answer the stream before the first attention is the same for all examples
        assert len({round(loss, 9) for loss in losses}) == 3, "they are three different ones"


@pytest.mark.parametrize("network", [name for name in MADE if name != "quotients"])
def test_random_neurons_are_the_same_however_they_are_numbered_and_scaled(network):
    here = views(network)
    place = new_order(here[""].neurons.shape[1]).argsort()
    of_change = {"order": lambda some: place[some].tolist()}
    first = gi.ablate(here[""], "neurons", [1, 4, 5])
    for change, view in here.items():
        found = gi.ablate(view, "neurons", of_change.get(change, lambda some: some)(torch.tensor([1, 4, 5])))
        assert found.after.loss["all"] == pytest.approx(first.after.loss["all"], rel=1e-9)
        assert found.control_loss() == pytest.approx(first.control_loss(), rel=1e-8)


def test_single_entries_of_the_stream_are_of_their_basis():
    """What is said not to be free of the gauge is not."""
    plain, turned = (
        gi.ablate(views("clock")[name], "blocks.0.hook_resid_mid", [0, 3]) for name in ("", "rotation")
    )
    assert abs(plain.after.loss["all"] - turned.after.loss["all"]) > 1e-3
    assert abs(plain.control_loss()[0] - turned.control_loss()[0]) > 1e-3


def test_two_seeds_give_other_controls():
    """The controls are still random: as different as the bases were that they depended on."""
    losses = [gi.ablate(views("clock")[""], "mlp", draws=4, seed=seed).control_loss() for seed in range(3)]
    assert len({round(mean, 6) for mean, _ in losses}) == 3


def test_a_gauge_that_there_is_not_cannot_be_declared():
    with pytest.raises(ValueError, match="unknown gauge 'colour'"):
        measure("no.such", unit="1", ref="nowhere at all", gauge=("colour",))
    assert "no.such" not in gi.MEASURES


def test_an_array_carries_what_it_depends_on():
    value = gi.measure("power.W_L", views("clock")[""])
    assert value.attrs["gauge"] == f"depends on {GAUGES['scale']}"
    assert "gauge" not in gi.measure("power.logits", views("clock")[""]).attrs
