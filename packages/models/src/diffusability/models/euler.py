"""Euler's method for the probability-flow ODE, with classifier-free guidance."""

import attrs
import torch

from diffusability.core.denoiser import Denoiser
from diffusability.core.errors import SpecError
from diffusability.core.sampler import Sampler
from diffusability.core.shapes import Labels, Latents, Times


def guided_velocity(
    denoiser: Denoiser, latents: Latents, time: Times, labels: Labels | None, guidance_scale: float
) -> Latents:
    """``v_uncond + s (v_cond - v_uncond)``, of one forward pass over both; at s = 1 of ``v_cond`` alone.

    Source: Ho & Salimans (2022), equation 6 with ``s = 1 + w``.

    Raises:
        SpecError: the scale is not 1, and the model is unconditional or no labels are given.
    """
    if guidance_scale == 1:
        conditional: Latents = denoiser(latents, time, labels)
        return conditional
    if denoiser.num_classes is None:
        raise SpecError(
            f"guidance_scale {guidance_scale!r} needs a class-conditional denoiser, and this {type(denoiser).__name__}"
            " is unconditional (num_classes is None); expected guidance_scale 1"
        )
    if labels is None:
        raise SpecError(f"guidance_scale {guidance_scale!r} needs class labels, and none were given; expected scale 1")
    both_labels = torch.cat([labels, torch.full_like(labels, denoiser.num_classes)])
    both: Latents = denoiser(torch.cat([latents, latents]), torch.cat([time, time]), both_labels)
    with_labels, without = both.chunk(2)
    return without + guidance_scale * (with_labels - without)


@attrs.frozen(kw_only=True, eq=False)
class EulerSampler(Sampler):
    """Integrates ``dz/dt = v(z, t)`` from noise at t = 1 to data at t = 0.

    Attributes:
        steps: equal steps of time; each is one evaluation of the denoiser, on twice the batch when guided.
        guidance_scale: strength of classifier-free guidance; 1 is none.
    """

    steps: int
    guidance_scale: float = 1.0

    def sample(self, denoiser: Denoiser, noise: Latents, labels: Labels | None = None) -> Latents:
        """Normalised latents of standard normal noise. Raises SpecError when guidance is asked and impossible."""
        latents = noise
        for step in range(self.steps):
            time = torch.full((len(noise),), 1 - step / self.steps, dtype=noise.dtype, device=noise.device)
            velocity = guided_velocity(denoiser, latents, time, labels, self.guidance_scale)
            latents = latents - velocity / self.steps
        return latents
