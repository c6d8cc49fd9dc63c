"""What LAPACK says of many small matrices in float64: numpy's, whose eigenvectors have the signs that the
targets of Charton 2022 (arXiv 2112.01898) have."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor


def eigenvalues(matrices: Float64[Tensor, "n size size"]) -> Float64[Tensor, "n size"]:
    """Of symmetric matrices, the least first."""
    return torch.from_numpy(np.linalg.eigvalsh(matrices.numpy()))


def eigenvectors(
    matrices: Float64[Tensor, "n size size"],
) -> tuple[Float64[Tensor, "n size"], Float64[Tensor, "n size size"]]:
    """Eigenvalues of symmetric matrices, the least first, and an orthonormal eigenvector for each, as the
    columns of a matrix."""
    values, vectors = np.linalg.eigh(matrices.numpy())
    return torch.from_numpy(values), torch.from_numpy(vectors)


def inverse(
    matrices: Float64[Tensor, "n size size"],
) -> tuple[Float64[Tensor, "n size size"], Bool[Tensor, "n"]]:
    """The inverse of matrices, and which of them have one: those with |M M⁻¹ − I| of at most 10⁻¹⁰
    everywhere, as in LAWT."""
    found = torch.linalg.inv_ex(matrices).inverse
    off = (matrices @ found - torch.eye(matrices.shape[-1], dtype=torch.float64)).abs().amax((-2, -1))
    return found, off <= 1e-10


def singular_values(matrices: Float64[Tensor, "n rows columns"]) -> Float64[Tensor, "n least"]:
    """The greatest first."""
    return torch.from_numpy(np.linalg.svd(matrices.numpy(), compute_uv=False))
