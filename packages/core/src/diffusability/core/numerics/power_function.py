"""Power-function averages of weights (Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion
Models", arXiv 2312.02696, section 3 and appendix C), as formulas on numbers.

An average at time ``t`` weighs the weights of time ``tau <= t`` by ``p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1)``:
its length grows with ``t``. It is named by its relative width ``sigma_rel``, the standard deviation of ``p`` over
``t``.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float

#: A number, or a tensor that holds one in float64.
T = TypeVar("T")

#: The width of the plain mean of all weights, gamma 0; wider ones would prefer early weights.
LARGEST_SIGMA_REL = float(1 / np.sqrt(12))


def gamma_of(sigma_rel: float) -> float:
    """The exponent of a relative width in (0, 0.2886]: the largest real root of

    ``gamma^3 + 7 gamma^2 + (16 - sigma^-2) gamma + (12 - sigma^-2) = 0``.
    """
    precision = sigma_rel**-2
    roots = np.roots([1.0, 7.0, 16.0 - precision, 12.0 - precision])
    return max(0.0, float(roots.real[np.abs(roots.imag) < 1e-6 * np.abs(roots)].max()))


def newest_share(num_updates: T, gamma: float) -> T:
    """Share of the newest weights in update number ``t = num_updates`` (from 1): ``1 - (1 - 1/t)^(gamma + 1)``.

    What the average keeps is their ``beta_gamma(t)``. Weights after update ``i`` then count for
    ``(i^(gamma + 1) - (i - 1)^(gamma + 1)) / t^(gamma + 1)``, the integral of ``p`` from ``i - 1`` to ``i``.
    """
    share: T = 1.0 - (1.0 - 1.0 / num_updates) ** (gamma + 1.0)  # type: ignore[operator]
    return share


def inner_products(
    times_a: Float[np.ndarray, " a"],
    gammas_a: Float[np.ndarray, " a"],
    times_b: Float[np.ndarray, " b"],
    gammas_b: Float[np.ndarray, " b"],
) -> Float[np.ndarray, "a b"]:
    """The integral of each profile of ``a`` times each of ``b`` (appendix C, in a form that cannot overflow).

    With ``s`` the earlier and ``t`` the later of the two times, and ``gamma_t`` that of the later one:
    ``(gamma_a + 1) (gamma_b + 1) (s / t)^gamma_t / ((gamma_a + gamma_b + 1) t)``.
    """
    ta, ga = times_a[:, None], gammas_a[:, None]
    tb, gb = times_b[None, :], gammas_b[None, :]
    later = np.maximum(ta, tb)
    exponent = np.where(ta < tb, gb, ga)
    products: Float[np.ndarray, "a b"] = (
        (ga + 1) * (gb + 1) * (np.minimum(ta, tb) / later) ** exponent / ((ga + gb + 1) * later)
    )
    return products


def reconstruction_coefficients(
    times: Sequence[float], gammas: Sequence[float], time: float, gamma: float
) -> Float[np.ndarray, " snapshots"]:
    """How to sum averages of known profiles for the one of another profile, in the least squares sense (appendix C).

    Every profile integrates to 1, so the coefficients are held to a sum of 1, which the paper leaves to the fit: with
    few snapshots it misses it by a thousandth, and weights are far larger than what they change by.

    Args:
        times: the update after which each stored average was taken.
        gammas: its exponent.
        time: the update after which the wanted average is to stand.
        gamma: its exponent.
    """
    known_times, known_gammas = np.asarray(times, np.float64), np.asarray(gammas, np.float64)
    gram = inner_products(known_times, known_gammas, known_times, known_gammas)
    wanted = inner_products(known_times, known_gammas, np.array([time], np.float64), np.array([gamma], np.float64))
    # Neighbouring snapshots are nearly parallel: least squares stays bounded where solving would not.
    scale = 1 / np.sqrt(np.diag(gram))
    right = np.stack([wanted[:, 0], np.ones_like(scale)], axis=1) * scale[:, None]
    solutions, *_ = np.linalg.lstsq(gram * scale[:, None] * scale[None, :], right, rcond=1e-13)
    free, direction = (solutions * scale[:, None]).T
    coefficients: Float[np.ndarray, " snapshots"] = free + direction * (1 - free.sum()) / direction.sum()
    return coefficients
