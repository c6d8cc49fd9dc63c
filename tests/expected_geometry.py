"""What measures of the circle in the first two principal components must say: see test_measures.py. Those of
elements with coordinates are tested in test_geometry.py."""

from __future__ import annotations

import math

import numpy as np
import torch

from grokinterp import geometry

ANY = math.nan

# Which of three equal circles comes first is open; see test_geometry.py for one circle.
ON_THE_CLOCK = {"geometry.circle.angle": [ANY] * 4, "geometry.circle.radius_spread": [ANY] * 4}

ON_A_RANDOM_NETWORK = {
    # Nothing is told from chance.
    "geometry.circle.angle": lambda x: 0 < x[0] < x[3] < 0.7 and x[1] < x[2] < x[3],
    "geometry.circle.radius_spread": lambda x: x[0] > x[3] > 0.3 and x[1] > x[2] > x[3],
}


def plane(view) -> np.ndarray:
    """The elements on the first two eigenvectors of the covariance."""
    embedding = view.W_E.numpy()[view.task.circle.a.numpy()]
    centred = embedding - embedding.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return centred @ vectors[:, [-1, -2]]


def with_chance(value: float, draws: list[float], smallest: bool = False) -> list[float]:
    at = 0.05 if smallest else 0.95
    return [value, np.mean(draws), np.quantile(draws, at), min(draws) if smallest else max(draws)]


def angle(points: np.ndarray, place: np.ndarray) -> float:
    """The best frequency and way of turning, one after the other."""
    m, theta = len(points), np.arctan2(points[:, 1], points[:, 0])
    return max(abs(np.exp(1j * (theta - 2 * np.pi * k * place / m)).mean()) for k in range(1, m))


def spread(points: np.ndarray) -> float:
    radius = np.hypot(points[:, 0], points[:, 1])
    return radius.std() / radius.mean()


def slow_angle(view) -> list[float]:
    points = plane(view)
    value, *draws = (angle(points, order.numpy()) for order in geometry.relabellings(len(points)))
    return with_chance(value, draws)


def slow_spread(view) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    shape = (len(view.task.circle.a), view.W_E.shape[1])
    draws = []
    for _ in range(geometry.DRAWS):
        cloud = torch.randn(*shape, generator=generator, dtype=torch.float64).numpy()
        cloud = cloud - cloud.mean(0)
        u, s, _ = np.linalg.svd(cloud, full_matrices=False)
        draws.append(spread((u * s)[:, :2]))
    return with_chance(spread(plane(view)), draws, smallest=True)


SLOWLY = {"geometry.circle.angle": slow_angle, "geometry.circle.radius_spread": slow_spread}

DIMS = {"statistic"}
