"""The Euler-Maruyama method for the diffusion SDE with the same marginals as the ODE."""

from itertools import pairwise

import attrs

from diffusability.core.denoiser import Denoiser
from diffusability.core.randomness import BatchRandomness
from diffusability.core.sampler import Sampler
from diffusability.core.shapes import Labels, Latents
from diffusability.core.velocity_model import VelocityModel
from diffusability.models.guidance import NO_GUIDANCE, Guidance
from diffusability.models.sampler_noise import noise_of_step


@attrs.frozen(kw_only=True, eq=False)
class EulerMaruyamaSampler(Sampler):
    """Integrates ``dz = (v - g^2 s / 2) dt + g dW`` backwards in time, with the score ``s = -eps / t`` and g^2 = d t.

    ``z' = z + (t' - t) (v + d eps / 2) + sqrt(d t (t - t')) n``, n standard normal; ``eps = z + (1 - t) v``. The last
    step, to t = 0, is that of the ODE without noise. At d = 0 it is Euler's method. Sources: Song et al. 2021, equation
    6; Ma et al. 2024 (SiT), equation 5 and table 1, whose coefficient ``sigma_t`` is d = 1.

    Attributes:
        steps: steps of time.
        diffusion: d, how much noise is added and removed on the way.
        guidance: how velocities are guided.
        time_shift: above 1, smaller steps near noise.
    """

    steps: int
    diffusion: float = 1.0
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
            if next_time > 0:
                eps = latents + (1 - time) * slope
                scale = (self.diffusion * time * (time - next_time)) ** 0.5
                latents = latents + (next_time - time) * (slope + self.diffusion / 2 * eps)
                latents = latents + scale * noise_of_step(randomness, index, noise)
            else:
                latents = latents + (next_time - time) * slope
        return latents
