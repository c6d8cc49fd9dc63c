"""What the measures of ablations and of smallest sets must say (see test_measures.py)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from by_hand import cross_entropy, forward
from expected_losses import along_answers
from grokinterp.errors import NotApplicable

P, KEYS, S = 17, (2, 5, 8), 10.0
ANY = math.nan


def clock_loss(keys) -> float:
    return math.log1p(
        sum(math.exp(S * sum(math.cos(2 * math.pi * k * d / P) - 1 for k in keys)) for d in range(1, P))
    )


WHOLE, CHANCE = clock_loss(KEYS), math.log(P)
NOTHING_LEFT = [[CHANCE, ANY, ANY]] * 2
NOTHING_LOST = [[WHOLE, ANY, ANY]] * 2
"""The clock computes with nothing that passes by its heads or its neurons."""

ON_THE_CLOCK = {
    "ablation.heads": [[CHANCE - WHOLE] * 2],  # a + b is uniform, whichever of the two is known
    "ablation.attention": NOTHING_LEFT,
    "ablation.mlp": NOTHING_LEFT,
    "ablation.skip.attention": NOTHING_LOST,
    "ablation.skip.into_mlp": NOTHING_LOST,
    "ablation.skip.mlp": NOTHING_LOST,
    "ablation.single_frequency_neurons": [
        clock_loss([key for key in KEYS if key != k]) for k in range(1, P // 2 + 1)
    ],
    "ablation.random_neurons": [[ANY, ANY] if k in KEYS else [WHOLE, 0] for k in range(1, P // 2 + 1)],
    # Two keys leave far more than twice the loss; two must go before half of ln 17 is lost: see
    # test_ablation.py.
    "smallest_sufficient": [k in KEYS for k in range(1, P // 2 + 1)],
    "smallest_necessary": [k in KEYS for k in range(1, P // 2 + 1)],
}


def chance(x) -> bool:
    """Every loss is that of a guess."""
    return (np.abs(x - math.log(53)) < 0.4).all()


def guess_whatever_is_done(x) -> bool:
    return chance(x[..., :2]) and (x[..., 2] < 0.2).all()


ON_A_RANDOM_NETWORK = {
    "ablation.heads": lambda x: (np.abs(x) < 0.1).all(),
    "ablation.attention": guess_whatever_is_done,
    "ablation.mlp": guess_whatever_is_done,
    "ablation.skip.attention": guess_whatever_is_done,
    "ablation.skip.into_mlp": guess_whatever_is_done,
    "ablation.skip.mlp": guess_whatever_is_done,
    "ablation.single_frequency_neurons": chance,
    "ablation.random_neurons": lambda x: chance(x[:, 0]) and (x[:, 1] == 0).all(),
    "smallest_sufficient": NotApplicable,
    "smallest_necessary": NotApplicable,
}


def rotations(size: int, draws: int):
    generator = torch.Generator().manual_seed(0)
    for _ in range(draws):
        q, r = np.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64).numpy())
        yield q * np.sign(np.diagonal(r))


def all_examples(view, **instead) -> float:
    return cross_entropy(view, forward(view, **instead)["logits"])[2]


def frame(view, here: np.ndarray) -> np.ndarray:
    """Singular vectors, the smallest first, of what an activation holds and what logits and neurons read of
    it, each to size 1."""
    readout = view.W_U.numpy()[:, : view.task.n_answers]
    read = [here, (readout - readout.mean(1, keepdims=True)).T]
    if "blocks.0.mlp.W_in" in view.weights:
        neurons = view.weights["blocks.0.mlp.W_in"].T.numpy()
        read.append(neurons / np.linalg.norm(neurons, axis=1, keepdims=True).clip(1e-12))
    seen = np.concatenate([part / np.linalg.norm(part) for part in read])
    vectors = np.linalg.svd(seen)[2][::-1].T
    along = seen @ vectors
    return vectors * np.sign(along[np.abs(along).argmax(0), np.arange(along.shape[1])])


def ablated_at(read: str, put: str):
    """The change of `read` is added at `put`; then turned by five rotations, which turn with the network."""

    def table(view) -> list[list[float]]:
        here, rows = forward(view)[read], []
        own = frame(view, here)
        for value in (0.0, here.mean(0)):
            change = value - here
            turns = [own @ turn @ own.T for turn in rotations(here.shape[1], 5)]
            turned = [all_examples(view, **{put: lambda x, d=change @ turn: x + d}) for turn in turns]
            rows.append(
                [all_examples(view, **{put: lambda x, d=change: x + d}), np.mean(turned), np.std(turned)]
            )
        return rows

    return table


def without_heads(view) -> list[list[float]]:
    z = forward(view)["z"]

    def but(head: int) -> np.ndarray:
        left = z.copy()
        left[:, head] = z[:, head].mean(0)
        return left

    return [[all_examples(view, z=but(head)) - all_examples(view) for head in range(z.shape[1])]]


def without_clusters(view) -> list[list[float]]:
    from test_measures import explained_by, frequencies

    shares, neurons, rows = explained_by(view), forward(view)["neurons"], []
    readout = view.weights["blocks.0.mlp.W_out"].numpy() @ view.W_U.numpy()[:, : view.task.n_answers]
    moved = neurons.std(0) * np.linalg.norm(readout - readout.mean(1, keepdims=True), axis=1)
    moving = np.argsort(-np.round(moved / max(moved.max(), 1e-300), 9), kind="stable")

    def without(chosen) -> float:
        return all_examples(
            view, neurons=np.where(np.isin(np.arange(neurons.shape[1]), chosen), neurons.mean(0), neurons)
        )

    for k in frequencies(view.task.p):
        own = np.flatnonzero((shares.argmax(0) == k - 1) & (shares.max(0) > 0.85))
        generator = torch.Generator().manual_seed(0)
        draws = [
            moving[torch.randperm(len(moving), generator=generator)[: len(own)].numpy()] for _ in range(10)
        ]
        random = [without(draw) for draw in draws] if len(own) else [without([])]
        rows.append([without(own), np.mean(random), np.std(random)])
    return rows


def smallest(view, keys, judge, best) -> list[bool]:
    from test_measures import frequencies

    for size in range(len(keys) + 1):
        found = [
            (judged, subset)
            for subset in itertools.combinations(keys, size)
            if (judged := judge(view, subset)) is not None
        ]
        if found:
            return [k in best(found)[1] for k in frequencies(view.task.p)]
    return [False for _ in frequencies(view.task.p)]


def sufficient(view, keys) -> float | None:
    logits = view.logits.numpy()
    part = along_answers(view, keys, view.logits.numpy()) if keys else np.zeros_like(logits)
    left = part + (logits - part).mean(0)
    loss, accuracy = cross_entropy(view, left)[2], (left.argmax(1) == view.task.targets.numpy()).mean()
    return loss if accuracy >= 0.99 and loss <= 2 * cross_entropy(view, logits)[2] else None


def necessary(view, keys) -> float | None:
    left = view.logits.numpy() - (along_answers(view, keys, view.logits.numpy()) if keys else 0)
    loss, accuracy = cross_entropy(view, left)[2], (left.argmax(1) == view.task.targets.numpy()).mean()
    return loss if accuracy < 0.5 or loss > math.log(view.task.p) / 2 else None


SLOWLY = {
    "ablation.heads": without_heads,
    "ablation.attention": ablated_at("attn_out", "attn_out"),
    "ablation.mlp": ablated_at("mlp_out", "mlp_out"),
    "ablation.skip.attention": ablated_at("resid_pre", "resid_mid"),
    "ablation.skip.into_mlp": ablated_at("resid_pre", "mlp_in"),
    "ablation.skip.mlp": ablated_at("resid_mid", "past_mlp"),
    "ablation.single_frequency_neurons": lambda view: [row[0] for row in without_clusters(view)],
    "ablation.random_neurons": lambda view: [row[1:] for row in without_clusters(view)],
    "smallest_sufficient": lambda view, keys: smallest(view, keys, sufficient, min),
    "smallest_necessary": lambda view, keys: smallest(view, keys, necessary, max),
}

OF_NEURONS = {"ablation.single_frequency_neurons", "ablation.random_neurons"}
OF_THE_READOUT = {"ablation.mlp", "ablation.skip.into_mlp", "ablation.skip.mlp"}
EVERYWHERE = OF_THE_READOUT | {"ablation.heads", "ablation.attention", "ablation.skip.attention"}
DIMS = {"how", "statistic"}
