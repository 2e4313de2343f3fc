"""Features of I3D, from a TorchScript file."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.errors import CheckpointError, DataError
from diffusability.core.published_weights import file_digest
from diffusability.core.shapes import Images
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.features.clips import resized_clips
from diffusability.eval.features.preparation import in_color
from diffusability.eval.specs.features.i3d import FEWEST_FRAMES, WEIGHTS, I3DSpec

SIZE = 224


class I3D(FeatureExtractor):
    """The 400 logits of I3D (Carreira & Zisserman 2017), as FVD takes them (Unterthiner et al. 2019).

    Clips in [-1, 1] are rounded to bytes and resized to 224 pixels, bilinear without antialiasing. The file is the one
    that StyleGAN-V and others use: a script whose ``forward`` takes clips and the flags ``rescale``, ``resize``,
    ``return_features``.
    """

    dimension = 400

    def __init__(self, weights: Path) -> None:
        super().__init__()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch asks for torch.export; the published file is a script
                self.network = torch.jit.load(str(weights), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{str(weights)!r} is not a TorchScript file: {first}") from None
        self._digest = file_digest(weights)

    @classmethod
    def from_spec(cls, spec: I3DSpec, context: BuildContext) -> "I3D":
        return cls(WEIGHTS.locate(spec.weights))

    def forward(self, images: Images) -> Float[Tensor, "b d"]:
        """Features of clips in [-1, 1] of any size.

        Raises:
            DataError: they have fewer than 10 frames.
            CheckpointError: the file is another network.
        """
        if images.shape[2] < FEWEST_FRAMES:
            raise DataError(f"features 'i3d' take clips of at least {FEWEST_FRAMES} frames, got {images.shape[2]}")
        clips = resized_clips(in_color(images, "i3d"), SIZE, antialias=False)
        with torch.autocast(images.device.type, enabled=False):
            features: Tensor = self.network(clips.contiguous(), rescale=False, resize=False, return_features=True)
        if features.shape != (len(images), self.dimension):
            raise CheckpointError(f"i3d gave features of shape {tuple(features.shape)!r}; expected 400 for each clip")
        return features

    def settings(self) -> Mapping[str, Any]:
        return {"weights": self._digest, "resize": f"bilinear, no antialias, {SIZE} px, of bytes"}
