"""What a denoiser predicts, and the velocity that follows from it.

Samplers work on the straight path ``z_t = (1 - t) z + t eps`` from data at t = 0 to noise at t = 1, whose velocity
is ``v = eps - z``. Given z_t, each of velocity, data and noise determines the others:

    z = z_t - t v         eps = z_t + (1 - t) v        v = (z_t - z) / t = (eps - z_t) / (1 - t)

Sources: Salimans & Ho 2022 (section 4) for the equivalence, Lipman et al. 2023 and Esser et al. 2024 for this path.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from diffusability.core.contracts.linear_betas import LinearBetas
from diffusability.core.errors import CheckpointError
from diffusability.core.numerics.axes import per_sample
from diffusability.core.shapes import Latents, Times

#: What a denoiser's output stands for.
Prediction = Literal["velocity", "data", "noise"]

PREDICTIONS: tuple[Prediction, ...] = ("velocity", "data", "noise")

#: On the straight path, predicted noise says nothing of the data at t = 1: such models are used up to this time.
_LAST_TIME_OF_NOISE_PREDICTION = 0.99


def interpolate(latents: Latents, noise: Latents, time: Times) -> Latents:
    """``z_t = (1 - t) z + t eps``: data at t = 0, noise at t = 1 (Liu et al. 2023, equation 1, time reversed)."""
    t = per_sample(time.to(latents.dtype), latents)
    return (1 - t) * latents + t * noise


def velocity(latents: Latents, noise: Latents) -> Latents:
    """``v = eps - z``, the derivative of ``interpolate`` with respect to time."""
    return noise - latents


def velocity_of(prediction: Prediction, predicted: Latents, latents: Latents, time: Times) -> Latents:
    """The velocity that a prediction at ``z_t = latents`` amounts to.

    A data prediction has none at t = 0, and a noise prediction none at t = 1: there the result is not finite.
    """
    t = per_sample(time.to(latents.dtype), latents)
    if prediction == "velocity":
        return predicted
    if prediction == "data":
        return (latents - predicted) / t
    return (predicted - latents) / (1 - t)


def data_of(velocity: Latents, latents: Latents, time: Times) -> Latents:
    """``z = z_t - t v``."""
    return latents - per_sample(time.to(latents.dtype), latents) * velocity


@attrs.frozen(kw_only=True)
class Parametrisation:
    """How a denoiser was trained, so that samplers know what its output means.

    Attributes:
        prediction: what its output stands for.
        betas: the schedule of a DDPM, whose denoisers see ``a_k z + s_k eps`` and the time ``k / num_steps``, and
            predict noise; None for the straight path.
    """

    prediction: Prediction = "velocity"
    betas: LinearBetas | None = None

    def __attrs_post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"unknown prediction {self.prediction!r}; expected one of {', '.join(PREDICTIONS)}")
        if self.betas is not None and self.prediction != "noise":
            raise ValueError(f"with a schedule of betas a denoiser predicts 'noise', got {self.prediction!r}")

    @property
    def last_time(self) -> float:
        """Where sampling starts: the noisiest time on the straight path that the denoiser was trained for."""
        if self.betas is not None:
            return float(self.betas.path_times[-1])
        return _LAST_TIME_OF_NOISE_PREDICTION if self.prediction == "noise" else 1.0

    @property
    def start_scale(self) -> float:
        """What standard normal noise is multiplied by to become latents at ``last_time``."""
        if self.betas is None:
            return self.last_time
        data_share = float(self.betas.alphas_bar[-1])
        return 1 / (math.sqrt(data_share) + math.sqrt(1 - data_share))

    def config(self) -> dict[str, Any]:
        """Plain data that ``from_config`` reads."""
        return attrs.asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Parametrisation":
        """The inverse of ``config``. Raises CheckpointError for what it did not write."""
        try:
            betas = config.get("betas")
            return cls(prediction=config["prediction"], betas=None if betas is None else LinearBetas(**betas))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"cannot read the parametrisation {config!r} of a denoiser: {error}") from None


#: What a denoiser is taken to predict when nothing is said.
VELOCITIES = Parametrisation()
