"""Features of DINOv2, with timm's vision transformer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.errors import CheckpointError
from diffusability.core.published_weights import file_digest
from diffusability.core.shapes import Images
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.features.preparation import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    in_color,
    normalized,
    resized_as_pillow,
)
from diffusability.eval.features.weights import fill, read_tensors
from diffusability.eval.specs.features.dinov2 import LENGTHS, TIMM_NAMES, DINOv2Model, DINOv2Spec

SIZE = 224
PATCHES = SIZE // 14


def positions_at(positions: Float[Tensor, "1 n d"], side: int) -> Float[Tensor, "1 m d"]:
    """Position embeddings, the class token's first, for ``side x side`` patches, as the authors interpolate them.

    Bicubic without antialiasing, by the factor ``(side + 0.1) / trained side`` (DINOv2's ``interpolate_offset``), which
    is not quite what a resize to the same number of places gives.
    """
    trained = round((positions.shape[1] - 1) ** 0.5)
    if trained == side:
        return positions
    places = positions[:, 1:].reshape(1, trained, trained, -1).permute(0, 3, 1, 2)
    moved = F.interpolate(places, scale_factor=(side + 0.1) / trained, mode="bicubic", antialias=False)
    assert moved.shape[-2:] == (side, side)
    return torch.cat([positions[:, :1], moved.flatten(2).transpose(1, 2)], dim=1)


class DINOv2(FeatureExtractor):
    """The normalised class token of DINOv2 (Oquab et al. 2023), on images of 224 pixels, bicubic with antialiasing.

    FDD is the Frechet distance in the features of ViT-L/14 (Stein et al. 2023), whose code reads bytes and has Pillow
    resize them to bytes: images are rounded before the resize and after each of its
    two passes.
    """

    def __init__(self, weights: Path, model: DINOv2Model = "vitl14") -> None:
        import timm

        super().__init__()
        self.model = model
        self.dimension = LENGTHS[model]
        self.network: Any = timm.create_model(TIMM_NAMES[model], pretrained=False, num_classes=0, img_size=SIZE)
        tensors = read_tensors(weights)
        if "pos_embed" not in tensors:
            raise CheckpointError(f"the weights in {str(weights)!r} are not DINOv2's: there is no 'pos_embed'")
        tensors.pop("mask_token", None)
        tensors["pos_embed"] = positions_at(tensors["pos_embed"].float(), PATCHES)
        fill(self.network, tensors, weights)
        self._digest = file_digest(weights)

    @classmethod
    def from_spec(cls, spec: DINOv2Spec, context: BuildContext) -> "DINOv2":
        spec.check_inputs()
        return cls(spec.weights_file(), spec.model)

    def forward(self, images: Images) -> Float[Tensor, "b d"]:
        """Features of images in [-1, 1] of any size."""
        return self._tokens(images)[:, 0]

    def feature_map(self, images: Images) -> Float[Tensor, "b d i j"]:
        """The normalised patch tokens at 16 x 16 places."""
        return self._tokens(images)[:, 1:].transpose(1, 2).reshape(len(images), -1, PATCHES, PATCHES)

    def _tokens(self, images: Images) -> Float[Tensor, "b n d"]:
        with torch.autocast(images.device.type, enabled=False):
            small = resized_as_pillow(in_color(images, "dinov2"), SIZE)
            prepared = normalized(small, IMAGENET_MEAN, IMAGENET_STD)
            tokens: Tensor = self.network.forward_features(prepared)
        return tokens

    def settings(self) -> Mapping[str, Any]:
        return {
            "model": self.model,
            "weights": self._digest,
            "resize": f"bicubic, antialias, {SIZE} px, of bytes to bytes as Pillow",
        }
