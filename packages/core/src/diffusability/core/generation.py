"""Images from a trained denoiser. The k-th sample depends on the seed and k alone."""

from collections.abc import Callable, Iterator

import torch

from diffusability.core.randomness import BatchRandomness
from diffusability.core.sampler import Sampler
from diffusability.core.saved_models import DiffusionModel
from diffusability.core.shapes import Images, Latents


@torch.no_grad()
def generate(
    model: DiffusionModel,
    sampler: Sampler,
    decode: Callable[[Latents], Images],
    *,
    num_samples: int,
    batch_size: int,
    seed: int,
    device: torch.device | str = "cpu",
    autocast_dtype: torch.dtype | None = None,
) -> Iterator[Images]:
    """Yields batches of images in [-1, 1].

    The labels of a conditional model are drawn uniformly. The denoiser runs under autocast when a dtype is given; the
    decoder runs in float32.
    """
    device = torch.device(device)
    for first in range(0, num_samples, batch_size):
        positions = range(first, min(first + batch_size, num_samples))
        randomness = BatchRandomness(seed=seed, step=0, positions=positions)
        noise = randomness.normal("sampling", model.latent_shape, device)
        labels = None
        if model.num_classes is not None:
            labels = randomness.integers("sampling-labels", model.num_classes, device)
        with torch.autocast(device.type, dtype=autocast_dtype or torch.bfloat16, enabled=autocast_dtype is not None):
            normalized = sampler.sample(model.denoiser, noise, labels)
        yield decode(model.normalizer.denormalize(normalized.float())).float().clamp(-1, 1)
