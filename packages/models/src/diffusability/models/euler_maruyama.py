"""The Euler-Maruyama method for the diffusion SDE with the same marginals as the ODE."""

from collections.abc import Iterable

import attrs

from diffusability.core.randomness import BatchRandomness
from diffusability.core.shapes import Latents
from diffusability.models.guidance import GuidedVelocity
from diffusability.models.guided_sampler import GuidedSampler, Step
from diffusability.models.sampler_noise import noise_of_step


@attrs.frozen(kw_only=True, eq=False)
class EulerMaruyamaSampler(GuidedSampler):
    """Integrates ``dz = (v - g^2 s / 2) dt + g dW`` backwards in time, with the score ``s = -eps / t`` and g^2 = d t.

    ``z' = z + (t' - t) (v + d eps / 2) + sqrt(d t (t - t')) n``, n standard normal; ``eps = z + (1 - t) v``. The last
    step, to t = 0, is that of the ODE without noise. At d = 0 it is Euler's method. Sources: Song et al. 2021, equation
    6; Ma et al. 2024 (SiT), equation 5 and table 1, whose coefficient ``sigma_t`` is d = 1.

    Attributes:
        diffusion: d, how much noise is added and removed on the way.
    """

    diffusion: float = 1.0

    def integrate(
        self, velocity: GuidedVelocity, latents: Latents, steps: Iterable[Step], randomness: BatchRandomness | None
    ) -> Latents:
        """The latents of data."""
        for index, (time, next_time) in enumerate(steps):
            slope = velocity(latents, time)
            if next_time > 0:
                eps = latents + (1 - time) * slope
                scale = (self.diffusion * time * (time - next_time)) ** 0.5
                latents = latents + (next_time - time) * (slope + self.diffusion / 2 * eps)
                latents = latents + scale * noise_of_step(randomness, index, latents)
            else:
                latents = latents + (next_time - time) * slope
        return latents
