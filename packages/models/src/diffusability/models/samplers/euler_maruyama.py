"""The Euler-Maruyama method for the diffusion SDE with the same marginals as the ODE."""

from collections.abc import Iterable
from typing import Literal

import attrs

from diffusability.core.contracts.velocity_model import VelocityModel
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.shapes import Latents
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.samplers.guidance import Guidance, GuidedVelocity
from diffusability.models.samplers.guided_sampler import GuidedSampler, Step, noise_of_step
from diffusability.models.specs.samplers import EulerMaruyamaSpec


@attrs.frozen(kw_only=True, eq=False)
class EulerMaruyamaSampler(GuidedSampler):
    """Integrates ``dz = (v - g^2 s / 2) dt + g dW`` backwards in time, with the score ``s = -eps / t`` and g^2 = d t.

    ``z' = z + (t' - t) (v + d eps / 2) + sqrt(d t (t - t')) n``, n standard normal; ``eps = z + (1 - t) v``. At d = 0
    it is Euler's method. Sources: Song et al. 2021, equation 6; Ma et al. 2024 (SiT), equation 5 and table 1. SiT's
    released code takes ``drift + w score`` and noise ``sqrt(2 w dt) n``; its form ``sigma`` is w = t, which is d = 2.

    The last step, to t = 0, adds no noise. That of the ODE is an estimate of the data. The *mean* of the SDE's step, in
    SiT's released code from t = 0.04, takes away more noise than there is: ``h d / 2`` of its estimate, which no number
    of steps makes smaller.

    Attributes:
        diffusion: d, how much noise is added and removed on the way.
        last_step: drift of the last step: the ODE's, or the mean of the SDE's.
        last_step_size: h, for the mean: the other steps divide the time from noise to h equally, and the last one goes
            from h to 0.
    """

    diffusion: float = 2.0
    last_step: Literal["ode", "mean"] = "ode"
    last_step_size: float = 0.04

    @classmethod
    def from_spec(cls, spec: EulerMaruyamaSpec, context: BuildContext) -> "EulerMaruyamaSampler":
        return cls(
            steps=spec.steps,
            diffusion=spec.diffusion,
            last_step=spec.last_step,
            last_step_size=spec.last_step_size,
            guidance=Guidance.from_spec(spec, context),
            time_shift=spec.time_shift,
        )

    def times(self, model: VelocityModel, shift: float = 1.0) -> list[float]:
        """The falling times between steps, from noise to 0."""
        if self.last_step == "ode" or self.steps == 1:
            return model.times(self.steps, shift)
        earlier = model.times(self.steps - 1, shift)
        first, last = earlier[0], self.last_step_size
        return [last + (first - last) * time / first for time in earlier] + [0.0]

    def integrate(
        self, velocity: GuidedVelocity, latents: Latents, steps: Iterable[Step], randomness: BatchRandomness | None
    ) -> Latents:
        """The latents of data."""
        for index, (time, next_time) in enumerate(steps):
            slope = velocity(latents, time)
            if next_time > 0 or self.last_step == "mean":
                slope = slope + self.diffusion / 2 * (latents + (1 - time) * slope)
            latents = latents + (next_time - time) * slope
            if next_time > 0:
                scale = (self.diffusion * time * (time - next_time)) ** 0.5
                latents = latents + scale * noise_of_step(randomness, index, latents)
        return latents
