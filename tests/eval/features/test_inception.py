"""Features of Inception, on a file of random weights in torch-fidelity's layout."""

import hashlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch_fidelity
from torch import Tensor
from torch_fidelity import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchvision.utils import save_image

from diffusability.core.contracts.evaluator import EvaluationBatch
from diffusability.core.errors import CheckpointError
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.features.preparation import as_bytes
from diffusability.eval.specs.features.inception import LENGTHS, InceptionSpec
from diffusability.eval.specs.generation import FrechetSpec, InceptionScoreSpec, KIDSpec


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, as torch-fidelity publishes the real ones; normalisation keeps activations alive."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights-inception-2015-12-05-6726825d.pth"
    with (
        patch("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", return_value={}),
        patch.object(FeatureExtractorInceptionV3, "load_state_dict"),
    ):
        network = FeatureExtractorInceptionV3("inception", ["2048"])
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Twelve smooth random images of 40 pixels whose values are exact bytes."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(12, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (40, 40), mode="bilinear")
    return (smooth * 255).round() / 127.5 - 1


@pytest.mark.parametrize("layer", ["64", "2048", "logits_unbiased"])
def test_features_are_torch_fidelitys(layer: str, weights: Path, images: Tensor) -> None:
    """Its extractor on the same weights and bytes, bit for bit."""
    theirs = FeatureExtractorInceptionV3("inception", [layer], str(weights))
    (expected,) = theirs(((images + 1) * 127.5).round().to(torch.uint8))
    extractor = InceptionSpec.model_validate({"layer": layer, "weights": weights}).build(BuildContext())
    assert torch.equal(extractor(images), expected)
    assert expected.shape == (12, LENGTHS[layer]) == (12, extractor.dimension)
    assert expected.std(0).max() > 0
    assert extractor.settings()["weights"] == hashlib.sha256(weights.read_bytes()).hexdigest()[:16]


def test_spatial_features_are_adms(weights: Path, images: Tensor) -> None:
    """``mixed_6/conv``: the 1x1 branch of the block that follows four of 17 x 17 places, first 7 channels, channels
    last, by hand; and the last map for alignment by place."""
    extractor = InceptionSpec(layer="spatial", weights=weights).build(BuildContext())
    features = extractor(images[:2])
    assert features.shape == (2, 17 * 17 * 7) == (2, extractor.dimension)
    network: Any = extractor.network
    seen: list[Tensor] = []
    handle = network.Mixed_6d.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(as_bytes(images[:2]))
    handle.remove()
    convolution = network.Mixed_6d.branch1x1
    maps = torch.relu(convolution.bn(convolution.conv(seen[0]))).numpy()
    np.testing.assert_allclose(features.numpy(), np.transpose(maps[:, :7], (0, 2, 3, 1)).reshape(2, -1), rtol=1e-5)
    pooled = InceptionSpec(weights=weights).build(BuildContext())
    torch.testing.assert_close(pooled.feature_map(images[:2]).mean((2, 3)), pooled(images[:2]))
    with pytest.raises(TypeError, match="'spatial' stops before its last feature map"):
        extractor.feature_map(images[:2])


def test_fid_is_torch_fidelitys_and_torchmetrics(weights: Path, images: Tensor) -> None:
    """The distance of two sets by the evaluator against both libraries, on 64 features of the same network."""
    spec = FrechetSpec(features=InceptionSpec(layer="64", weights=weights), force=True)
    evaluator = spec.build(BuildContext())
    real, generated = images[:6], images[6:] * 0.7
    for start in (0, 4):
        stop = min(start + 4, 6)
        evaluator.update(
            EvaluationBatch(indices=range(start, stop), images=real[start:stop], generated=generated[start:stop])
        )
    (result,) = evaluator.compute()
    theirs = FeatureExtractorInceptionV3("inception", ["64"], str(weights))
    statistics = [fid_features_to_statistics(theirs(as_bytes(part))[0].double()) for part in (generated, real)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert result.value == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-4

    class Features(torch.nn.Module):
        num_features = 64

        def forward(self, pixels: Tensor) -> Tensor:
            (features,) = theirs(pixels)
            return features

    metric = FrechetInceptionDistance(feature=Features(), input_img_size=(3, 40, 40)).set_dtype(torch.float64)
    metric.update(as_bytes(real), real=True)
    metric.update(as_bytes(generated), real=False)
    assert result.value == pytest.approx(metric.compute().item(), rel=1e-3)


def test_metrics_of_two_folders_are_those_that_torch_fidelity_prints(
    weights: Path, images: Tensor, tmp_path: Path
) -> None:
    """FID, KID and Inception score of PNG files by ``calculate_metrics``, of the tensors that the files were made of by
    our evaluators: samples lie between bytes before they are written."""
    real, generated = images[:6], (images[6:] * 0.7 + 0.0007).clamp(-1, 1)
    for folder, batch in (("real", real), ("generated", generated)):
        (tmp_path / folder).mkdir()
        for index, image in enumerate(batch):
            save_image(image / 2 + 0.5, tmp_path / folder / f"{index}.png")
    expected = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "generated"),
        input2=str(tmp_path / "real"),
        feature_extractor_weights_path=str(weights),
        feature_layer_fid="64",  # of 2,048 features, its matrix root takes a minute
        feature_layer_kid="64",
        fid=True,
        kid=True,
        isc=True,
        kid_subset_size=5,
        isc_splits=2,
        cuda=False,
        cache=False,
        save_cpu_ram=True,  # reads in this process
        verbose=False,
    )
    inception = InceptionSpec(layer="64", weights=weights)
    logits = InceptionSpec(layer="logits_unbiased", weights=weights)
    values: dict[str, float | None] = {}
    for spec in (
        FrechetSpec(features=inception, force=True),
        KIDSpec(features=inception, subset_size=5),
        InceptionScoreSpec(features=logits, splits=2),
    ):
        evaluator = spec.build(BuildContext())
        evaluator.update(EvaluationBatch(indices=range(6), images=real, generated=generated))
        values |= {result.metric.removesuffix("_inception_64"): result.value for result in evaluator.compute()}
    # Its matrix root of a singular product is the inexact one of the two, see test_frechet_distance.
    assert values["frechet"] == pytest.approx(expected["frechet_inception_distance"], rel=1e-4)
    # A difference of means of kernels near 1, of features in float32: each is known to their eps.
    rounding = 2 * float(np.finfo(np.float32).eps)
    assert values["kid"] == pytest.approx(expected["kernel_inception_distance_mean"], abs=rounding)
    assert values["inception_score"] == pytest.approx(expected["inception_score_mean"], rel=1e-5)
    assert expected["frechet_inception_distance"] > 1e-4


def test_missing_and_wrong_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they are looked for and published; weights of something else; a file that would run code."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"needs the weight file 'weights-inception-2015-12-05-6726825d\.pth' \(91 MiB\)"
    ):
        InceptionSpec().check_inputs()
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="are not Inception's of 2015"):
        InceptionSpec(weights=tmp_path / "other.pth").build(BuildContext())
    torch.save(torch.nn.ReLU(), tmp_path / "pickle.pth")
    with pytest.raises(CheckpointError, match=r"pickle\.pth' cannot be read"):
        InceptionSpec(weights=tmp_path / "pickle.pth").build(BuildContext())
