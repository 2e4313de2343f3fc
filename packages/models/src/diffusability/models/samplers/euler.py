"""Euler's method for the probability-flow ODE."""

from collections.abc import Iterable

import attrs

from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.shapes import Latents
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.samplers.guidance import Guidance, GuidedVelocity
from diffusability.models.samplers.guided_sampler import GuidedSampler, Step
from diffusability.models.specs.samplers import EulerSpec


@attrs.frozen(kw_only=True, eq=False)
class EulerSampler(GuidedSampler):
    """Integrates ``dz/dt = v(z, t)`` from noise to data at first order: ``z' = z + (t' - t) v(z, t)``.

    Attributes:
        steps: steps of time; each is one evaluation of the denoiser, on twice the batch with classifier-free guidance.
    """

    @classmethod
    def from_spec(cls, spec: EulerSpec, context: BuildContext) -> "EulerSampler":
        return cls(steps=spec.steps, guidance=Guidance.from_spec(spec, context), time_shift=spec.time_shift)

    def integrate(
        self, velocity: GuidedVelocity, latents: Latents, steps: Iterable[Step], randomness: BatchRandomness | None
    ) -> Latents:
        """The latents of data."""
        for time, next_time in steps:
            latents = latents + (next_time - time) * velocity(latents, time)
        return latents
