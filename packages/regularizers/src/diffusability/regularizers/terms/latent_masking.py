"""Reconstruction from masked latents (SSVAE)."""

from itertools import accumulate

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.errors import SpecError
from diffusability.core.numerics.axes import per_channel
from diffusability.core.shapes import Images, Latents, Scalar
from diffusability.core.specs.build_context import BuildContext
from diffusability.regularizers.decoding import (
    Decode,
    Distance,
    decoding_loss,
    distance_of,
    images_and_latents,
    trained_autoencoder,
)
from diffusability.regularizers.specs.latent_masking import LatentMaskingSpec


def random_mask(
    scores: Float[Tensor, "b *t rows columns"], ratio: float, block_size: int
) -> Bool[Tensor, "b 1 *t h w"]:
    """Masks the share ``ratio`` of the blocks of each sample, those with the highest scores, and at least one."""
    flat = scores.flatten(1)
    count = max(1, int(flat.shape[1] * ratio))
    masked = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, flat.topk(count, dim=1).indices, True)
    blocks = masked.view_as(scores).unsqueeze(1)
    return blocks.repeat_interleave(block_size, -2).repeat_interleave(block_size, -1)


def latent_masking_loss(
    images: Images,
    latents: Float[Tensor, "b d *s i j"],
    token: Float[Tensor, " d"],
    mask: Bool[Tensor, "b 1 *s i j"],
    decode: Decode,
    distance: Distance,
) -> Scalar:
    """``d(x, D(z'))``, z' being the latents with a learned token in the masked places (arXiv 2512.05394, L_LMR)."""
    shaped = per_channel(token, latents).to(latents)
    return decoding_loss(images, torch.where(mask, shaped, latents), decode, distance, "masked")


class LatentMasking(Regularizer):
    """The masking loss at a ratio that is drawn for each step; every sample has a mask of its own.

    Where the authors replace the reconstruction from whole latents in those steps, the term is added to it here. The
    token is trained with the rest.

    Raises:
        SpecError: the latents' channels are not known.
    """

    def __init__(self, spec: LatentMaskingSpec, context: BuildContext) -> None:
        super().__init__()
        self.spec = spec
        if context.autoencoder is None:
            raise SpecError(f"regularizer {spec.label!r} must know the autoencoder whose latents it masks")
        self.token = nn.Parameter(torch.randn(context.autoencoder.latent_channels))

    @classmethod
    def from_spec(cls, spec: LatentMaskingSpec, context: BuildContext) -> "LatentMasking":
        return cls(spec, context)

    def ratio(self, drawn: float) -> float:
        """The ratio that belongs to a uniform number; 0 for none."""
        for ratio, end in zip(self.spec.ratios, accumulate(self.spec.probabilities), strict=True):
            if drawn < end:
                return ratio
        return 0.0

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The loss of the step, 0 in steps that mask nothing."""
        images, latents = images_and_latents(output)
        ratio = self.ratio(output.batch.randomness.fraction("latent-masking"))
        if ratio == 0:
            return 0 * self.token.sum()  # keeps the token in the graph: sharded engines expect every gradient
        return latent_masking_loss(
            images,
            latents,
            self.token,
            self._mask(output, latents, ratio),
            trained_autoencoder(objective, self.spec.label).decode,
            distance_of(objective, self.spec.perceptual),
        )

    def _mask(self, output: StepOutput, latents: Latents, ratio: float) -> Tensor:
        size = self.spec.block_size
        *times, height, width = latents.shape[2:]
        shape = (*times, height // size, width // size)
        scores = output.batch.randomness.normal("latent-masking", shape, latents.device)
        return random_mask(scores, ratio, size)
