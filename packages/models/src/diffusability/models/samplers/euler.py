"""Euler's method for the probability-flow ODE."""

from collections.abc import Iterable

import attrs

from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.shapes import Latents
from diffusability.models.samplers.guidance import GuidedVelocity
from diffusability.models.samplers.guided_sampler import GuidedSampler, Step


@attrs.frozen(kw_only=True, eq=False)
class EulerSampler(GuidedSampler):
    """Integrates ``dz/dt = v(z, t)`` from noise to data at first order: ``z' = z + (t' - t) v(z, t)``.

    Attributes:
        steps: steps of time; each is one evaluation of the denoiser, on twice the batch with classifier-free guidance.
    """

    def integrate(
        self, velocity: GuidedVelocity, latents: Latents, steps: Iterable[Step], randomness: BatchRandomness | None
    ) -> Latents:
        """The latents of data."""
        for time, next_time in steps:
            latents = latents + (next_time - time) * velocity(latents, time)
        return latents
