"""DDIM, from deterministic (eta 0) to ancestral sampling (eta 1)."""

import math
from collections.abc import Iterable

import attrs
import torch

from diffusability.core.errors import SpecError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.shapes import Latents
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.samplers.guidance import Guidance, GuidedVelocity
from diffusability.models.samplers.guided_sampler import GuidedSampler, Step, noise_of_step
from diffusability.models.specs.samplers import DDIMSpec


def posterior_variance(time: float, next_time: float) -> float:
    """Variance of ``z_t'`` given ``z_t`` and the data, on the straight path, for t' < t.

    ``(t'^2 / t^2) (t^2 - ((1 - t) / (1 - t'))^2 t'^2)``: equation 7 of Ho et al. 2020 for any two times and this path.
    """
    ratio = (1 - time) / (1 - next_time)
    return max(0.0, (next_time / time) ** 2 * (time**2 - (ratio * next_time) ** 2))


def forward_variance(time: float, next_time: float) -> float:
    """The upper bound ``1 - abar_k / abar_k'`` of the reverse variance, in the straight path's coordinates at t'.

    The bounds are those of Nichol & Dhariwal 2021 (equation 15) for steps of any length.
    """
    ratio = (1 - time) / (1 - next_time)
    scale = ((1 - next_time) ** 2 + next_time**2) / ((1 - time) ** 2 + time**2)
    return scale * (time**2 - (ratio * next_time) ** 2)


@attrs.frozen(kw_only=True, eq=False)
class DDIMSampler(GuidedSampler):
    """``z' = (1 - t') z_0 + sqrt(t'^2 - s^2) eps + s n`` with the estimates of data z_0 and noise eps at t, n standard
    normal and ``s^2 = eta^2`` times ``posterior_variance`` (Song, Meng & Ermon 2021, equations 12 and 16).

    In these coordinates eta 0 is Euler's method along the straight path. Times of DDPM models are training steps.

    Attributes:
        eta: 0 adds no noise; 1 is the ancestral sampling of DDPM.
        learned_variance: at eta 1, add noise of the variance that the model has learned, not of the posterior's.
    """

    eta: float = 0.0
    learned_variance: bool = False

    @classmethod
    def from_spec(cls, spec: DDIMSpec, context: BuildContext) -> "DDIMSampler":
        return cls(
            steps=spec.steps,
            eta=spec.eta,
            learned_variance=spec.learned_variance,
            guidance=Guidance.from_spec(spec, context),
            time_shift=spec.time_shift,
        )

    def integrate(
        self, velocity: GuidedVelocity, latents: Latents, steps: Iterable[Step], randomness: BatchRandomness | None
    ) -> Latents:
        """The latents of data. Raises SpecError when the model has learned no variance, and it is asked for."""
        denoiser = velocity.model.denoiser
        if self.learned_variance and not denoiser.learn_sigma:
            raise SpecError(
                f"learned_variance needs a denoiser with learn_sigma: true, and this {type(denoiser).__name__}"
                " has learn_sigma false; expected a model trained by ddpm with it, or learned_variance false"
            )
        for index, (time, next_time) in enumerate(steps):
            slope = velocity(latents, time)
            data, eps = latents - time * slope, latents + (1 - time) * slope
            variance = self.eta**2 * posterior_variance(time, next_time)
            latents = (1 - next_time) * data + max(0.0, next_time**2 - variance) ** 0.5 * eps
            if variance > 0:
                added = noise_of_step(randomness, index, latents)
                share = velocity.variance_share if self.learned_variance else None
                latents = latents + _std(variance, forward_variance(time, next_time), share) * added
        return latents


def _std(low: float, high: float, share: Latents | None) -> float | Latents:
    """Standard deviation of variance ``low``, or of one between it and ``high``, in the logarithm, by the share."""
    if share is None:
        return math.sqrt(low)
    upper = (share + 1) / 2
    return torch.exp((upper * math.log(high) + (1 - upper) * math.log(low)) / 2)
