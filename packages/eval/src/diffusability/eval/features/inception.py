"""Features of the Inception network of 2015, by torch-fidelity."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.errors import CheckpointError
from diffusability.core.published_weights import file_digest
from diffusability.core.shapes import Images
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.features.preparation import as_bytes, in_color
from diffusability.eval.features.weights import read_tensors
from diffusability.eval.specs.features.inception import LENGTHS, WEIGHTS, InceptionLayer, InceptionSpec

#: Channels of the spatial features that count: 17 x 17 x 7 numbers (Nash et al. 2021; ADM).
SPATIAL_CHANNELS = 7


class Inception(FeatureExtractor):
    """The network of ``inception-2015-12-05``, on images rounded to bytes and resized to 299 pixels as by TensorFlow 1.

    Layer ``2048`` gives FID (Heusel et al. 2017), ``logits_unbiased`` the Inception score (Salimans et al. 2016),
    ``spatial`` sFID: the first 7 channels of ``mixed_6/conv`` in the order row, column, channel, as ADM takes them.
    """

    def __init__(self, weights: Path, layer: InceptionLayer = "2048") -> None:
        from torch_fidelity import FeatureExtractorInceptionV3

        super().__init__()
        self.layer = layer
        self.dimension = LENGTHS[layer]
        read_tensors(weights)  # torch-fidelity would run whatever a file holds that is not tensors alone
        runs_to = "768" if layer == "spatial" else layer
        try:
            self.network = FeatureExtractorInceptionV3("inception-v3", [runs_to], str(weights))
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0]
            raise CheckpointError(f"the weights in {str(weights)!r} are not Inception's of 2015: {first}") from None
        self._digest = file_digest(weights)

    @classmethod
    def from_spec(cls, spec: InceptionSpec, context: BuildContext) -> "Inception":
        spec.check_inputs()
        return cls(WEIGHTS.locate(spec.weights), spec.layer)

    def forward(self, images: Images) -> Float[Tensor, "b d"]:
        """Features of images in [-1, 1] of any size."""
        if self.layer != "spatial":
            (features,) = self._run(images)
            return features  # type: ignore[no-any-return]
        maps = self._output_of(self.network.Mixed_6d.branch1x1, images)
        return maps[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)

    def feature_map(self, images: Images) -> Float[Tensor, "b d i j"]:
        """The 2,048 features at 8 x 8 places."""
        if self.layer in ("64", "192", "768", "spatial"):
            raise TypeError(f"inception with layer {self.layer!r} stops before its last feature map")
        return self._output_of(self.network.Mixed_7c, images)

    def _run(self, images: Images) -> Any:
        with torch.autocast(images.device.type, enabled=False):
            return self.network(as_bytes(in_color(images, "inception")))

    def _output_of(self, module: nn.Module, images: Images) -> Tensor:
        seen: list[Tensor] = []
        handle = module.register_forward_hook(lambda module, inputs, output: seen.append(output))
        try:
            self._run(images)
        finally:
            handle.remove()
        return seen[0]

    def settings(self) -> Mapping[str, Any]:
        return {
            "layer": self.layer,
            "weights": self._digest,
            "resize": "bilinear of TensorFlow 1, no antialias, 299 px, of bytes",
        }
