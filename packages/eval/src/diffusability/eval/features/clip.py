"""Image embeddings of CLIP, with transformers' network."""

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
from diffusability.eval.features.preparation import in_color, normalized, resized
from diffusability.eval.features.snapshots import pretrained
from diffusability.eval.specs.features.clip import MODELS, CLIPModel, CLIPSpec

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class CLIP(FeatureExtractor):
    """Projected image embeddings of CLIP (Radford et al. 2021), of length 1, as CMMD compares them.

    Images are rounded to bytes, as files have them, and resized to the network's side, bicubic with antialiasing as
    ``jax.image.resize`` does in CMMD's code, without cropping or rounding.
    """

    def __init__(self, folder: Path, weights: Path, model: CLIPModel) -> None:
        from transformers import CLIPVisionModelWithProjection

        super().__init__()
        self.model = model
        self.network = pretrained(CLIPVisionModelWithProjection, folder)
        self.dimension, self.size = MODELS[model][:2]
        actual = (self.network.config.projection_dim, self.network.config.image_size)
        if actual != (self.dimension, self.size):
            raise CheckpointError(
                f"the model in {str(folder)!r} has embeddings of {actual[0]} numbers and images of {actual[1]} pixels;"
                f" {model!r} has {self.dimension} and {self.size}"
            )
        self._digest = file_digest(weights)

    @classmethod
    def from_spec(cls, spec: CLIPSpec, context: BuildContext) -> "CLIP":
        spec.check_inputs()
        folder, weights = spec.snapshot()
        return cls(folder, weights, spec.model)

    def forward(self, images: Images) -> Float[Tensor, "b d"]:
        """Embeddings of images in [-1, 1] of any size."""
        with torch.autocast(images.device.type, enabled=False):
            prepared = normalized(resized(in_color(images, "clip"), self.size, clamp=False), CLIP_MEAN, CLIP_STD)
            return F.normalize(self.network(pixel_values=prepared).image_embeds, dim=1)

    def settings(self) -> Mapping[str, Any]:
        return {"model": self.model, "weights": self._digest, "resize": f"bicubic, antialias, {self.size} px, of bytes"}
