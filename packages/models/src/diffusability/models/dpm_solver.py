"""DPM-Solver++(2M): a second-order multistep method in the logarithm of the signal-to-noise ratio."""

import math
from itertools import pairwise

import attrs

from diffusability.core.denoiser import Denoiser
from diffusability.core.randomness import BatchRandomness
from diffusability.core.sampler import Sampler
from diffusability.core.shapes import Labels, Latents
from diffusability.core.velocity_model import VelocityModel
from diffusability.models.guidance import NO_GUIDANCE, Guidance


def half_log_snr(time: float) -> float:
    """``lambda = log((1 - t) / t)``: minus infinity at noise, infinity at data."""
    if time >= 1:
        return -math.inf
    return math.inf if time <= 0 else math.log((1 - time) / time)


@attrs.frozen(kw_only=True, eq=False)
class DPMSolverSampler(Sampler):
    """``z' = (t'/t) z + ((1 - t') - (1 - t) t'/t) D``, with D the data estimate extrapolated from the last two steps.

    ``D = z_0 + (z_0 - z_0_before) h / (2 h_before)``, h the step of lambda. Source: Lu et al. 2022 (DPM-Solver++),
    algorithm 2, with ``alpha = 1 - t`` and ``sigma = t``. The first and the last step are of first order: before the
    first there is no estimate, and the last goes to t = 0 where lambda is infinite.

    Attributes:
        steps: steps of time; each is one evaluation of the denoiser.
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
        before: Latents | None = None
        step_before = math.inf
        for time, next_time in pairwise(model.times(self.steps, self.time_shift)):
            data = latents - time * velocity(latents, time)
            step = half_log_snr(next_time) - half_log_snr(time)
            extrapolated = data
            if before is not None and math.isfinite(step):
                extrapolated = data + (data - before) * (step / (2 * step_before))
            ratio = next_time / time
            latents = ratio * latents + ((1 - next_time) - (1 - time) * ratio) * extrapolated
            before, step_before = data, step
        return latents
