"""What the pruning curves must say: see test_measures.py."""

from __future__ import annotations

import math

import numpy as np
import torch

from expected_neurons import D_MLP, P
from expected_sparsity import half_participation, read_and_written
from grokinterp.models import in_float64

DIMS = {"removed"}
PARTS = ("train", "test", "all")


def counts(d_mlp: int) -> list[int]:
    step = math.ceil(d_mlp / 20)
    return sorted({*range(0, d_mlp, step), d_mlp})


def on_the_clock() -> np.ndarray:
    """Every neuron has one frequency: only the ends are settled, the whole network and logits that are all
    alike."""
    curve = np.full((len(counts(D_MLP)), len(PARTS)), np.nan)
    curve[0], curve[-1, 2] = 1, 1 / P
    return curve


NAMES = ("pruning.lowest_ipr", "pruning.highest_ipr", "pruning.random")
ON_THE_CLOCK = dict.fromkeys(NAMES, on_the_clock)
ON_A_RANDOM_NETWORK = dict.fromkeys(NAMES, lambda x: (x < 0.1).all())  # it knows nothing, with any neurons


def of_half_spectrum(view) -> np.ndarray:
    matrices = read_and_written(view)
    return np.array(
        [np.mean([half_participation(x[:, i]) for x in matrices]) for i in range(view.neurons.shape[1])]
    )


def by_removal(view, order: np.ndarray) -> np.ndarray:
    """The network run with a hook that sets the neurons to 0."""
    layer, task, model = view.n_layers - 1, view.task, in_float64(view.model)
    found = []
    for count in counts(len(order)):
        gone = torch.tensor(order[:count].tolist(), dtype=torch.long)

        def remove(x, hook, gone=gone):
            x = x.clone()
            x[:, -1, gone] = 0
            return x

        with torch.no_grad():
            logits = model.run_with_hooks(task.inputs, fwd_hooks=[(f"blocks.{layer}.mlp.hook_post", remove)])[
                :, -1
            ]
        right = (logits[:, : task.n_answers].argmax(1) == task.targets).double()
        found.append([float(right[view.rows(part)].mean()) for part in view.parts])
    return np.array(found)


def in_order(view) -> np.ndarray:
    return np.argsort(of_half_spectrum(view).round(9), kind="stable")


def at_random(view) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    return np.mean(
        [
            by_removal(view, torch.randperm(view.neurons.shape[1], generator=generator).numpy())
            for _ in range(5)
        ],
        axis=0,
    )


SLOWLY = {
    "pruning.lowest_ipr": lambda view: by_removal(view, in_order(view)),
    "pruning.highest_ipr": lambda view: by_removal(view, in_order(view)[::-1]),
    "pruning.random": at_random,
}
EVERYWHERE = {"pruning.random"}
OF_THE_READOUT = set(NAMES)
