"""Embeddings whose geometry is known, and networks that have them."""

from __future__ import annotations

import torch

import grokinterp as gi
from grokinterp.models import ModelConfig

N, M, D = 5, 25, 32
GRID = torch.cartesian_prod(torch.arange(N), torch.arange(N)).double()
CENTRED = GRID - GRID.mean(0)


def rotation(rows: int = 8, d: int = D, seed: int = 1) -> torch.Tensor:
    """Rows of norm 1 at right angles to each other, in no special direction."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0][:rows]


def noise(m: int = M, d: int = D, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(embedding: torch.Tensor, n: int = N) -> gi.View:
    """A network on slopes that embeds the points so."""
    task = gi.make_task("point_slope", n=n)
    config = ModelConfig(d_model=embedding.shape[1], n_heads=2, d_head=4, d_mlp=8)
    view = gi.View.of_weights(task, config, config.initial_weights(task.reads, 0))
    weights = view.weights["embed.W_E"].clone()
    weights[task.element_tokens] = embedding
    return view.with_weights({"embed.W_E": weights})


GRID_IN_SPACE = 3.0 * CENTRED @ rotation()[:2] + 7
"""The grid, turned into some plane, three times as large, and moved."""
X, Y = CENTRED.T
QUADRATIC = torch.stack([X**2, X * Y, Y**2], 1)
FOLD_IN_SPACE = QUADRATIC @ rotation()[:3]
"""x², xy and y²: a point and its mirror image through the centre are one."""


def _grid_behind_a_fold() -> torch.Tensor:
    fold = torch.linalg.svd(QUADRATIC - QUADRATIC.mean(0), full_matrices=False)[0]
    sides = CENTRED / CENTRED.norm(dim=0)
    return torch.cat([fold * torch.tensor([9, 8, 7]), sides * torch.tensor([3, 2])], 1) @ rotation(5)


GRID_BEHIND_A_FOLD = _grid_behind_a_fold()
"""Three components of x², xy and y², of the sizes 9, 8 and 7, then one of x and one of y, of 3 and 2."""
