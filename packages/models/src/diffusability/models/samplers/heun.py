"""Heun's method for the probability-flow ODE."""

from collections.abc import Iterable

import attrs

from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.shapes import Latents
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.samplers.guidance import Guidance, GuidedVelocity
from diffusability.models.samplers.guided_sampler import GuidedSampler, Step
from diffusability.models.specs.samplers import HeunSpec


@attrs.frozen(kw_only=True, eq=False)
class HeunSampler(GuidedSampler):
    """Integrates ``dz/dt = v(z, t)`` at second order: an Euler step, then the mean of the slopes at both of its ends.

    Both slopes of a step are guided, or neither is, by the time at which it starts: the mean of a guided and an
    unguided slope would be that of no field. The last step is Euler's alone, since predictions of data have no velocity
    at t = 0 (Karras et al. 2022, algorithm 1). One such step does not lower the order.

    Attributes:
        steps: steps of time; all but the last are two evaluations of the denoiser.
    """

    @classmethod
    def from_spec(cls, spec: HeunSpec, context: BuildContext) -> "HeunSampler":
        return cls(
            steps=spec.steps,
            guidance=Guidance.from_spec(spec, context),
            time_shift=spec.time_shift,
        )

    def integrate(
        self, velocity: GuidedVelocity, latents: Latents, steps: Iterable[Step], randomness: BatchRandomness | None
    ) -> Latents:
        """The latents of data."""
        for time, next_time in steps:
            slope = velocity(latents, time)
            step = next_time - time
            if next_time > 0:
                slope = (slope + velocity(latents + step * slope, next_time, step_start=time)) / 2
            latents = latents + step * slope
        return latents
