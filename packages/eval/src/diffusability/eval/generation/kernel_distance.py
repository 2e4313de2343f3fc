"""Maximum mean discrepancies of sets of feature vectors."""

import math
from collections.abc import Callable

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.eval.streaming.jackknife import jackknife_spread

#: Rows of a kernel matrix that are computed at once.
_ROWS = 1024
#: Fewest vectors of each set for which ``mmd_spread`` gives a number.
FEWEST_FOR_A_SPREAD = 3

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


@attrs.frozen(kw_only=True, eq=False)
class KernelSums:
    """Sums over the rows of the kernel matrices of samples x and y: all that their distance depends on.

    Attributes:
        within_x: for each x, the sum of the kernel with all x, itself among them.
        within_y: the same of y.
        own_x: for each x, the kernel with itself.
        own_y: the same of y.
        x_to_y: for each x, the sum of the kernel with all y.
        y_to_x: for each y, the sum of the kernel with all x.
        paired: the kernel of the k-th x with the k-th y; None where the sets are not equally large.
    """

    within_x: Float[Tensor, " a"]
    within_y: Float[Tensor, " b"]
    own_x: Float[Tensor, " a"]
    own_y: Float[Tensor, " b"]
    x_to_y: Float[Tensor, " a"]
    y_to_x: Float[Tensor, " b"]
    paired: Float[Tensor, " a"] | None = None


def kernel_sums(kernel: Kernel, first: Float[Tensor, "a d"], second: Float[Tensor, "b d"]) -> KernelSums:
    """In float64, a part of each matrix at a time."""
    x, y = first.double(), second.double()
    (within_x, own_x), (within_y, own_y) = _within(kernel, x), _within(kernel, y)
    paired: list[Tensor] | None = [] if len(x) == len(y) else None
    x_to_y, y_to_x = [], torch.zeros(len(y), dtype=y.dtype, device=y.device)
    for start in range(0, len(x), _ROWS):
        part = kernel(x[start : start + _ROWS], y)
        x_to_y.append(part.sum(1))
        y_to_x += part.sum(0)
        if paired is not None:
            paired.append(part.diagonal(start))
    return KernelSums(
        within_x=within_x,
        within_y=within_y,
        own_x=own_x,
        own_y=own_y,
        x_to_y=torch.cat(x_to_y),
        y_to_x=y_to_x,
        paired=None if paired is None else torch.cat(paired),
    )


def _within(kernel: Kernel, vectors: Float[Tensor, "a d"]) -> tuple[Float[Tensor, " a"], Float[Tensor, " a"]]:
    sums, own = [], []
    for start in range(0, len(vectors), _ROWS):
        part = kernel(vectors[start : start + _ROWS], vectors)
        sums.append(part.sum(1))
        own.append(part.diagonal(start))
    return torch.cat(sums), torch.cat(own)


def mmd_of_sums(sums: KernelSums, *, unbiased: bool) -> float:
    """The squared maximum mean discrepancy, unbiased or of the samples as they are; see the functions below."""
    n, m = len(sums.within_x), len(sums.within_y)
    x, y = sums.within_x.sum(), sums.within_y.sum()
    if unbiased:
        within = (x - sums.own_x.sum()) / (n * (n - 1)) + (y - sums.own_y.sum()) / (m * (m - 1))
    else:
        within = x / n**2 + y / m**2
    return float(within - 2 * sums.x_to_y.sum() / (n * m))


def mmd_spread(sums: KernelSums, *, unbiased: bool) -> float:
    """Standard deviation of ``mmd_of_sums`` over independent draws of both samples, by the jackknife.

    Each vector is left out in turn, which costs nothing beyond the sums (Arvesen 1969); the variances of the two
    samples add up. Where both samples come from one distribution the distance has no linear part, and the jackknife
    says more than independent draws would show. At least ``FEWEST_FOR_A_SPREAD`` vectors of each set.
    """
    parts = (
        (sums.within_x, sums.own_x, sums.x_to_y, len(sums.within_y)),
        (sums.within_y, sums.own_y, sums.y_to_x, len(sums.within_x)),
    )
    squares = 0.0
    for within, own, across, others in parts:
        n = len(within)
        rest = within.sum() - 2 * within + own  # of the matrix without one row and one column
        inner = (rest - own.sum() + own) / ((n - 1) * (n - 2)) if unbiased else rest / (n - 1) ** 2
        left_out = inner - 2 * (across.sum() - across) / ((n - 1) * others)
        squares += jackknife_spread(left_out.tolist()) ** 2
    return math.sqrt(squares)


def mmd_without_each_pair(sums: KernelSums, *, unbiased: bool) -> Float[Tensor, " a"] | None:
    """``mmd_of_sums`` without the k-th vector of both sets, for each k; None where the sets do not make pairs.

    It costs nothing beyond the sums. At least ``FEWEST_FOR_A_SPREAD`` vectors of each set.
    """
    n = len(sums.within_x)
    if sums.paired is None or n < FEWEST_FOR_A_SPREAD:
        return None
    inner = torch.zeros_like(sums.paired)
    for within, own in ((sums.within_x, sums.own_x), (sums.within_y, sums.own_y)):
        rest = within.sum() - 2 * within + own  # of the matrix without one row and one column
        inner += (rest - own.sum() + own) / ((n - 1) * (n - 2)) if unbiased else rest / (n - 1) ** 2
    return inner - 2 * (sums.x_to_y.sum() - sums.x_to_y - sums.y_to_x + sums.paired) / (n - 1) ** 2


def unbiased_mmd(kernel: Kernel, first: Float[Tensor, "a d"], second: Float[Tensor, "b d"]) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, equation 3), in float64.

    The diagonals of ``K_xx`` and ``K_yy`` do not count. It may be below 0. At least two vectors of each set.
    """
    return mmd_of_sums(kernel_sums(kernel, first, second), unbiased=True)
