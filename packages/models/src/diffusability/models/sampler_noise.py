"""The noise that stochastic samplers add on the way."""

from diffusability.core.randomness import BatchRandomness
from diffusability.core.shapes import Latents


def noise_of_step(randomness: BatchRandomness | None, step: int, like: Latents) -> Latents:
    """Standard normal noise for a sampling step, each sample from a stream of its own.

    So the k-th sample depends on the seed and k alone. Without randomness, places in the batch stand for k.
    """
    source = randomness or BatchRandomness(seed=0, step=0, positions=range(len(like)))
    return source.normal(f"sampler-step-{step}", like.shape[1:], like.device).to(like.dtype)
