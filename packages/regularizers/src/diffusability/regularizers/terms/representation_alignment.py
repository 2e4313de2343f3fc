"""Alignment of latents with the features of a frozen network (VA-VAE's VF loss)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.contracts.objective import Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.errors import SpecError
from diffusability.core.perceptual.borrowed import BorrowedNetwork
from diffusability.core.shapes import Scalar
from diffusability.core.specs.build_context import BuildContext
from diffusability.regularizers.adaptive_balance import GradientBalance
from diffusability.regularizers.decoding import images_and_latents
from diffusability.regularizers.latents import at_least_float32, without_autocast
from diffusability.regularizers.specs.representation_alignment import RepresentationAlignmentSpec


def marginal_cosine_loss(
    projected: Float[Tensor, "b d h w"], features: Float[Tensor, "b d h w"], margin: float
) -> Scalar:
    """``mean_ij relu(1 - m1 - cos(z'_ij, f_ij))`` over places (Yao et al. 2025, arXiv 2501.01423, L_mcos)."""
    return F.relu(1 - margin - F.cosine_similarity(projected, features, dim=1)).mean()


def marginal_distance_loss(
    projected: Float[Tensor, "b d h w"], features: Float[Tensor, "b e h w"], margin: float
) -> Scalar:
    """``mean_ij relu(|cos(z_i, z_j) - cos(f_i, f_j)| - m2)`` over pairs of places of an image (ibid., L_mdms).

    Taken from the projected latents, as published implementations do.
    """
    similarities = []
    for maps in (projected, features):
        unit = F.normalize(maps.flatten(2), dim=1)
        similarities.append(unit.transpose(1, 2) @ unit)
    return F.relu((similarities[0] - similarities[1]).abs() - margin).mean()


def alignment_loss(
    projected: Float[Tensor, "b d h w"],
    features: Float[Tensor, "b d h w"],
    cosine_margin: float = 0.5,
    distance_margin: float = 0.25,
) -> Scalar:
    """The sum of both losses, in full precision."""
    with without_autocast(projected):
        projected, features = at_least_float32(projected), at_least_float32(features)
        return marginal_cosine_loss(projected, features, cosine_margin) + marginal_distance_loss(
            projected, features, distance_margin
        )


class RepresentationAlignment(Regularizer):
    """Projects latents linearly to the features' dimension, and aligns them. The projection is trained.

    Raises:
        SpecError: the extractor gives no features by place, or the latents' channels are not known.
    """

    def __init__(self, spec: RepresentationAlignmentSpec, context: BuildContext) -> None:
        super().__init__()
        self.spec = spec
        if context.autoencoder is None:
            raise SpecError(f"regularizer {spec.label!r} must know the autoencoder whose latents it projects")
        extractor = spec.features.build(context)
        self.extractor = BorrowedNetwork(extractor)
        dimension = _map_dimension(extractor, context, spec)
        self.projection = nn.Conv2d(context.autoencoder.latent_channels, dimension, 1, bias=False)
        self.balance = GradientBalance(spec.adapt_every) if spec.adaptive else None

    @classmethod
    def from_spec(cls, spec: RepresentationAlignmentSpec, context: BuildContext) -> "RepresentationAlignment":
        return cls(spec, context)

    def forward(self, output: StepOutput, objective: Objective) -> Scalar:
        """The loss against the features of the images, resampled to the latents' size."""
        images, latents = images_and_latents(output)
        features = self._features(images, (latents.shape[-2], latents.shape[-1])).to(latents)
        if self.balance is not None and self.balance.is_due(output.batch.randomness.step):
            leaf = latents.detach().requires_grad_()
            self.balance.measure(output, objective, leaf, self._loss(leaf, features), self.spec.label)
        return self._loss(latents, features)

    def _loss(self, latents: Float[Tensor, "b c h w"], features: Float[Tensor, "b d h w"]) -> Scalar:
        margins = self.spec.cosine_margin, self.spec.distance_margin
        return alignment_loss(self.projection(latents), features, *margins)

    @torch.no_grad()
    def _features(self, images: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b d i j"]:
        features: Tensor = self.extractor.on(images.device).feature_map(images).float()
        if tuple(features.shape[-2:]) == size:
            return features
        return F.interpolate(features, size, mode="bilinear", align_corners=False, antialias=True)

    def factor(self) -> Tensor | None:
        """The share of the reconstruction loss's gradient that the weight is multiplied by."""
        return None if self.balance is None else self.balance.factor()


@torch.no_grad()
def _map_dimension(extractor: FeatureExtractor, context: BuildContext, spec: RepresentationAlignmentSpec) -> int:
    """Channels of the extractor's maps, of which only its vectors' length is declared."""
    shape = context.image_shape or (3, 64, 64)
    try:
        return extractor.eval().feature_map(torch.zeros(1, *shape)).shape[1]
    except TypeError as error:
        raise SpecError(
            f"regularizer {spec.label!r} needs features by place, and {error}; expected another feature extractor than"
            f" {spec.features.kind!r}"
        ) from error
