"""The embedding: its principal components."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from ..view import View
from .base import Value, array, measure


def principal_components(view: View) -> tuple[Float64[Tensor, "p pc"], Float64[Tensor, "pc"]]:
    """Coordinates of the elements on the principal components of the centred embedding, and each one's share
    of the variance."""
    u, s, _ = torch.linalg.svd(view.W_E - view.W_E.mean(0), full_matrices=False)
    return u * s, s.square() / s.square().sum().clamp_min(torch.finfo(s.dtype).tiny)


@measure(
    "pca_explained_variance.W_E",
    unit="1",
    ref="Power et al. 2022, section 3.3; Liu et al. 2022 (arXiv 2205.10343)",
    each_answer=False,
)
def pca_explained_variance(view: View) -> Value:
    """Share of the embedding's variance on each principal component, largest first."""
    share = principal_components(view)[1]
    return array(share, "pc", pc=list(range(len(share))))
