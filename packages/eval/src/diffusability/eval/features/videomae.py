"""Features of VideoMAE, with transformers' network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.errors import CheckpointError
from diffusability.core.published_weights import file_digest
from diffusability.core.shapes import Images
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.features.clips import resized_clips, sampled_frames
from diffusability.eval.features.preparation import IMAGENET_MEAN, IMAGENET_STD, in_color, normalized
from diffusability.eval.features.snapshots import pretrained
from diffusability.eval.specs.features.videomae import VideoMAESpec


class VideoMAE(FeatureExtractor):
    """The mean of the last tokens of VideoMAE (Tong et al. 2022), of 16 frames at even distances.

    Ge et al. 2024 ("On the Content Bias in Frechet Video Distance") find the distance in such features to see motion
    where I3D's sees content. Frames are rounded to bytes and resized bilinearly with antialiasing.
    """

    def __init__(self, folder: Path, weights: Path, name: str, dimension: int) -> None:
        from transformers import VideoMAEModel

        super().__init__()
        self.name = name
        self.network = pretrained(VideoMAEModel, folder)
        self.dimension = dimension
        if self.network.config.hidden_size != dimension:
            raise CheckpointError(
                f"the model in {str(folder)!r} has {self.network.config.hidden_size} features; {name!r} has {dimension}"
            )
        self._digest = file_digest(weights)

    @classmethod
    def from_spec(cls, spec: VideoMAESpec, context: BuildContext) -> "VideoMAE":
        spec.check_inputs()
        folder, weights = spec.snapshot()
        return cls(folder, weights, spec.label(), spec.num_features())

    def forward(self, images: Images) -> Float[Tensor, "b d"]:
        """Features of clips in [-1, 1] of any size. Raises DataError when they have fewer than 16 frames."""
        config = self.network.config
        frames = sampled_frames(in_color(images, self.name), config.num_frames, self.name)
        clips = normalized(resized_clips(frames, config.image_size, antialias=True), IMAGENET_MEAN, IMAGENET_STD)
        with torch.autocast(images.device.type, enabled=False):
            tokens: Tensor = self.network(pixel_values=clips.transpose(1, 2)).last_hidden_state
        return tokens.mean(1)

    def settings(self) -> Mapping[str, Any]:
        config = self.network.config
        return {
            "model": self.name,
            "weights": self._digest,
            "resize": f"bilinear, antialias, {config.image_size} px, of bytes",
            "frames": config.num_frames,
        }
