"""What the samplers of this package share: steps of time along guided velocities."""

from abc import abstractmethod
from collections.abc import Iterable
from itertools import pairwise

import attrs

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.sampler import Sampler
from diffusability.core.contracts.velocity_model import VelocityModel
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.shapes import Labels, Latents
from diffusability.models.samplers.guidance import NO_GUIDANCE, Guidance, GuidedVelocity
from diffusability.models.specs.time_shift import TimeShift, dimension_shift


def noise_of_step(randomness: BatchRandomness | None, step: int, like: Latents) -> Latents:
    """Standard normal noise for a sampling step, each sample from a stream of its own.

    So the k-th sample depends on the seed and k alone. Without randomness, places in the batch stand for k.
    """
    source = randomness or BatchRandomness(seed=0, step=0, positions=range(len(like)))
    return source.normal(f"sampler-step-{step}", like.shape[1:], like.device).to(like.dtype)


#: A time, and the lower one that a step leads to.
Step = tuple[float, float]


@attrs.frozen(kw_only=True, eq=False)
class GuidedSampler(Sampler):
    """Goes from noise to data in steps of time, which a subclass takes in ``integrate``.

    Attributes:
        steps: steps of time.
        guidance: how velocities are guided; classifier-free guidance evaluates the denoiser on twice the batch.
        time_shift: above 1, smaller steps near noise; ``auto`` for that of ``dimension_shift``.
    """

    steps: int
    guidance: Guidance = NO_GUIDANCE
    time_shift: TimeShift = 1.0

    def sample(
        self,
        denoiser: Denoiser,
        noise: Latents,
        labels: Labels | None = None,
        randomness: BatchRandomness | None = None,
    ) -> Latents:
        """Normalised latents of standard normal noise. Raises SpecError when guidance is asked and impossible."""
        model = VelocityModel.from_denoiser(denoiser)
        velocity = self.guidance.bind(model, labels)
        times = self.times(model, self.shift(tuple(noise.shape[1:])))
        return self.integrate(velocity, model.start(noise), pairwise(times), randomness)

    def shift(self, latent_shape: tuple[int, ...]) -> float:
        """The time shift for latents of shape ``(c, *t, h, w)``."""
        return dimension_shift(latent_shape) if self.time_shift == "auto" else self.time_shift

    def times(self, model: VelocityModel, shift: float = 1.0) -> list[float]:
        """The falling times between steps, from noise to 0. Raises SpecError when a DDPM has not as many."""
        return model.times(self.steps, shift)

    @abstractmethod
    def integrate(
        self, velocity: GuidedVelocity, latents: Latents, steps: Iterable[Step], randomness: BatchRandomness | None
    ) -> Latents:
        """Latents at the end of the last step, of those at the beginning of the first."""
