"""What the squared error of a prediction is multiplied by, as a function of time.

On the straight path the errors of the three predictions are ``|dz| = t |dv|`` and ``|deps| = (1 - t) |dv|``, so that a
loss on any of them is a weighted loss on any other, and ``SNR = ((1 - t) / t)^2``.
"""

from typing import Literal

import torch

from diffusability.core.contracts.parametrisation import Prediction
from diffusability.core.shapes import Times

Weighting = Literal["none", "min-snr", "sigmoid"]

#: Errors are divided by at least this share: a data prediction near t = 0 would count without bound as a velocity
#: (Li & He 2025, "Back to Basics", take the same number).
SMALLEST_SHARE = 0.05


def error_scale(prediction: Prediction, time: Times) -> Times:
    """How large an error of this kind is when the velocity is wrong by 1: 1, t or 1 - t."""
    if prediction == "velocity":
        return torch.ones_like(time)
    return time if prediction == "data" else 1 - time


def conversion_weight(prediction: Prediction, loss_on: Prediction, time: Times) -> Times:
    """Weight that turns the squared error of ``prediction`` into that of ``loss_on``; bounded, see SMALLEST_SHARE."""
    if prediction == loss_on:
        return torch.ones_like(time)
    return (error_scale(loss_on, time) / error_scale(prediction, time).clamp_min(SMALLEST_SHARE)).square()


def min_snr_weight(time: Times, gamma: float) -> Times:
    """Weight of the squared error of the data: ``min(SNR, gamma)`` (Hang et al. 2023, equation 8)."""
    return ((1 - time) / time.clamp_min(1e-6)).square().clamp_max(gamma)


def sigmoid_weight(time: Times, bias: float) -> Times:
    """Weight of the squared error of the noise: ``sigmoid(bias - log SNR)`` (Hoogeboom et al. 2024, equation 6)."""
    log_snr = 2 * (torch.log1p(-time.clamp_max(1 - 1e-6)) - torch.log(time.clamp_min(1e-6)))
    return torch.sigmoid(bias - log_snr)


def loss_weight(
    prediction: Prediction, loss_on: Prediction, weighting: Weighting, strength: float, time: Times
) -> Times:
    """Weight of the squared error of ``prediction``.

    ``weighting`` none: an unweighted loss on ``loss_on``. The others say themselves what they are a loss on, data for
    min-snr and noise for sigmoid; ``strength`` is their gamma or bias.
    """
    if weighting == "none":
        return conversion_weight(prediction, loss_on, time)
    if weighting == "min-snr":
        return min_snr_weight(time, strength) * conversion_weight(prediction, "data", time)
    return sigmoid_weight(time, strength) * conversion_weight(prediction, "noise", time)
