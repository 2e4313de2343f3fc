"""Euler's method for the probability-flow ODE."""

from itertools import pairwise

import attrs

from diffusability.core.denoiser import Denoiser
from diffusability.core.randomness import BatchRandomness
from diffusability.core.sampler import Sampler
from diffusability.core.shapes import Labels, Latents
from diffusability.core.velocity_model import VelocityModel
from diffusability.models.guidance import NO_GUIDANCE, Guidance


@attrs.frozen(kw_only=True, eq=False)
class EulerSampler(Sampler):
    """Integrates ``dz/dt = v(z, t)`` from noise to data at first order: ``z' = z + (t' - t) v(z, t)``.

    Attributes:
        steps: steps of time; each is one evaluation of the denoiser, on twice the batch with classifier-free guidance.
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
            latents = latents + (next_time - time) * velocity(latents, time)
        return latents
