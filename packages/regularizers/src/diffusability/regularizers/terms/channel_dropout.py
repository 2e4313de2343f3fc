"""Reconstruction from the first channels of the latents."""

from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.numerics.axes import per_channel
from diffusability.core.shapes import Latents, Scalar
from diffusability.regularizers.decoding import decoding_loss, distance_of, images_and_latents, trained_autoencoder
from diffusability.regularizers.specs.channel_dropout import ChannelDropoutSpec


def first_channels(latents: Latents, count: int) -> Float[Tensor, "b c *t h w"]:
    """Latents of which all channels but the first ``count`` are zero.

    Nested dropout (Rippel et al. 2014): channels become ordered by how much of the image they carry. DC-AE 1.5 (Chen et
    al. 2025, arXiv 2508.00413) trains a structured latent space in this way.
    """
    kept = latents.new_zeros(latents.shape[1])
    kept[:count] = 1
    return latents * per_channel(kept, latents)


class ChannelDropout(Regularizer):
    """The reconstruction loss of the first channels, as many as are drawn for the step, equal on all ranks."""

    def __init__(self, spec: ChannelDropoutSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The loss, at least 0."""
        images, latents = images_and_latents(output)
        counts = self.spec.keep or tuple(range(1, latents.shape[1]))
        count = counts[output.batch.randomness.choice("channel-dropout", len(counts))]
        decode = trained_autoencoder(objective, self.spec.label).decode
        changed = first_channels(latents, count)
        return decoding_loss(images, changed, decode, distance_of(objective, self.spec.perceptual), "of fewer channels")
