"""DDIM, from deterministic (eta 0) to ancestral sampling (eta 1)."""

from itertools import pairwise

import attrs

from diffusability.core.denoiser import Denoiser
from diffusability.core.randomness import BatchRandomness
from diffusability.core.sampler import Sampler
from diffusability.core.shapes import Labels, Latents
from diffusability.core.velocity_model import VelocityModel
from diffusability.models.guidance import NO_GUIDANCE, Guidance
from diffusability.models.sampler_noise import noise_of_step


def posterior_variance(time: float, next_time: float) -> float:
    """Variance of ``z_t'`` given ``z_t`` and the data, on the straight path, for t' < t.

    ``(t'^2 / t^2) (t^2 - ((1 - t) / (1 - t'))^2 t'^2)``: equation 7 of Ho et al. 2020 for any two times and this path.
    """
    ratio = (1 - time) / (1 - next_time)
    return max(0.0, (next_time / time) ** 2 * (time**2 - (ratio * next_time) ** 2))


@attrs.frozen(kw_only=True, eq=False)
class DDIMSampler(Sampler):
    """``z' = (1 - t') z_0 + sqrt(t'^2 - s^2) eps + s n`` with the estimates of data z_0 and noise eps at t, n standard
    normal and ``s^2 = eta^2`` times ``posterior_variance`` (Song, Meng & Ermon 2021, equations 12 and 16).

    In these coordinates eta 0 is Euler's method along the straight path. Times of DDPM models are training steps.

    Attributes:
        steps: steps of time.
        eta: 0 adds no noise; 1 is the ancestral sampling of DDPM, with the posterior's variance.
        guidance: how velocities are guided.
        time_shift: above 1, smaller steps near noise.
    """

    steps: int
    eta: float = 0.0
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
        for index, (time, next_time) in enumerate(pairwise(model.times(self.steps, self.time_shift))):
            slope = velocity(latents, time)
            data, eps = latents - time * slope, latents + (1 - time) * slope
            variance = self.eta**2 * posterior_variance(time, next_time)
            latents = (1 - next_time) * data + max(0.0, next_time**2 - variance) ** 0.5 * eps
            if variance > 0:
                latents = latents + variance**0.5 * noise_of_step(randomness, index, noise)
        return latents
