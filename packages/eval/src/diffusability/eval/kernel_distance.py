"""Maximum mean discrepancies of sets of feature vectors."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

#: Rows of a kernel matrix that are computed at once.
_ROWS = 1024

Kernel = Callable[[Float[Tensor, "a d"], Float[Tensor, "b d"]], Float[Tensor, "a b"]]


def polynomial_kernel(first: Float[Tensor, "a d"], second: Float[Tensor, "b d"]) -> Float[Tensor, "a b"]:
    """``(x^T y / d + 1)^3`` (Binkowski et al. 2018, section 4)."""
    return (first @ second.T / first.shape[1] + 1).pow(3)


def gaussian_kernel(sigma: float) -> Kernel:
    """``exp(-|x - y|^2 / (2 sigma^2))``."""

    def kernel(first: Float[Tensor, "a d"], second: Float[Tensor, "b d"]) -> Float[Tensor, "a b"]:
        squares = first.square().sum(1)[:, None] + second.square().sum(1) - 2 * (first @ second.T)
        return torch.exp(-squares.clamp(min=0) / (2 * sigma**2))

    return kernel


def _sum(kernel: Kernel, first: Float[Tensor, "a d"], second: Float[Tensor, "b d"]) -> float:
    return sum((float(kernel(rows, second).sum()) for rows in torch.split(first, _ROWS)), 0.0)


def _trace(kernel: Kernel, vectors: Float[Tensor, "a d"]) -> float:
    return sum((float(kernel(rows, rows).diagonal().sum()) for rows in torch.split(vectors, _ROWS)), 0.0)


def unbiased_mmd(kernel: Kernel, first: Float[Tensor, "a d"], second: Float[Tensor, "b d"]) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, equation 3), in float64.

    The diagonals of ``K_xx`` and ``K_yy`` do not count. It may be below 0. At least two vectors of each set.
    """
    x, y = first.double(), second.double()
    within = [
        (_sum(kernel, vectors, vectors) - _trace(kernel, vectors)) / (len(vectors) * (len(vectors) - 1))
        for vectors in (x, y)
    ]
    return within[0] + within[1] - 2 * _sum(kernel, x, y) / (len(x) * len(y))


def biased_mmd(kernel: Kernel, first: Float[Tensor, "a d"], second: Float[Tensor, "b d"]) -> float:
    """The squared maximum mean discrepancy of the samples as they are (Gretton et al. 2012, equation 5), in float64.

    It is not below 0, and larger than the unbiased one.
    """
    x, y = first.double(), second.double()
    within = [_sum(kernel, vectors, vectors) / len(vectors) ** 2 for vectors in (x, y)]
    return within[0] + within[1] - 2 * _sum(kernel, x, y) / (len(x) * len(y))
