"""Heun's method for the probability-flow ODE."""

from itertools import pairwise

import attrs

from diffusability.core.denoiser import Denoiser
from diffusability.core.randomness import BatchRandomness
from diffusability.core.sampler import Sampler
from diffusability.core.shapes import Labels, Latents
from diffusability.core.velocity_model import VelocityModel
from diffusability.models.guidance import NO_GUIDANCE, Guidance


@attrs.frozen(kw_only=True, eq=False)
class HeunSampler(Sampler):
    """Integrates ``dz/dt = v(z, t)`` at second order: an Euler step, then the mean of the slopes at both of its ends.

    The last step is Euler's alone, since predictions of data have no velocity at t = 0 (Karras et al. 2022, algorithm
    1). One such step does not lower the order.

    Attributes:
        steps: steps of time; all but the last are two evaluations of the denoiser.
        guidance: how velocities are guided.
        time_shift: above 1, smaller steps near noise.
    """

    steps: int
    guidance: Guidance = NO_GUIDANCE
    time_shift: float = 1.0

    def sample(
        self,
        denoiser: Denoiser,
        noise: Latents,
        labels: Labels | None = None,
        randomness: BatchRandomness | None = None,
    ) -> Latents:
        """Normalised latents of standard normal noise. Raises SpecError when guidance is asked and impossible."""
        model = VelocityModel.of(denoiser)
        velocity = self.guidance.bind(model, labels)
        latents = model.start(noise)
        for time, next_time in pairwise(model.times(self.steps, self.time_shift)):
            slope = velocity(latents, time)
            step = next_time - time
            if next_time > 0:
                slope = (slope + velocity(latents + step * slope, next_time)) / 2
            latents = latents + step * slope
        return latents
