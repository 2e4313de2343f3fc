"""DPM-Solver++(2M): a second-order multistep method in the logarithm of the signal-to-noise ratio."""

import math
from collections.abc import Iterable

import attrs

from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.shapes import Latents
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.samplers.guidance import Guidance, GuidedVelocity
from diffusability.models.samplers.guided_sampler import GuidedSampler, Step
from diffusability.models.specs.samplers import DPMSolverSpec


def half_log_snr(time: float) -> float:
    """``lambda = log((1 - t) / t)``: minus infinity at noise, infinity at data."""
    if time >= 1:
        return -math.inf
    return math.inf if time <= 0 else math.log((1 - time) / time)


@attrs.frozen(kw_only=True, eq=False)
class DPMSolverSampler(GuidedSampler):
    """``z' = (t'/t) z + ((1 - t') - (1 - t) t'/t) D``, with D the data estimate extrapolated from the last two steps.

    ``D = z_0 + (z_0 - z_0_before) h / (2 h_before)``, h the step of lambda. Source: Lu et al. 2022 (DPM-Solver++),
    algorithm 2, with ``alpha = 1 - t`` and ``sigma = t``. The first and the last step are of first order: before the
    first there is no estimate, and the last goes to t = 0 where lambda is infinite. So are those with which guidance
    sets in or ends: an estimate with it and one without do not lie on one curve.

    Attributes:
        steps: steps of time; each is one evaluation of the denoiser.
    """

    @classmethod
    def from_spec(cls, spec: DPMSolverSpec, context: BuildContext) -> "DPMSolverSampler":
        return cls(
            steps=spec.steps,
            guidance=Guidance.from_spec(spec, context),
            time_shift=spec.time_shift,
        )

    def integrate(
        self, velocity: GuidedVelocity, latents: Latents, steps: Iterable[Step], randomness: BatchRandomness | None
    ) -> Latents:
        """The latents of data."""
        before: Latents | None = None
        step_before, guided_before = math.inf, False
        for time, next_time in steps:
            data = latents - time * velocity(latents, time)
            step = half_log_snr(next_time) - half_log_snr(time)
            extrapolated, guided = data, velocity.guidance.acts_at(time)
            if before is not None and math.isfinite(step) and guided == guided_before:
                extrapolated = data + (data - before) * (step / (2 * step_before))
            ratio = next_time / time
            latents = ratio * latents + ((1 - next_time) - (1 - time) * ratio) * extrapolated
            before, step_before, guided_before = data, step, guided
        return latents
