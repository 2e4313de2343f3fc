"""``dfz compare``: two sets of finished images, held against torch-fidelity on the same files."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity import FeatureExtractorInceptionV3
from typer.testing import CliRunner

from diffusability.core.cli.app import app
from diffusability.core.data.image_sets import ImageArray, open_image_set
from diffusability.core.errors import DataError, SpecError
from diffusability.core.scoring.comparison import ComparisonOptions, compare_images
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.specs.features.inception import InceptionSpec

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the Inception of 2015, in torch-fidelity's layout."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with (
        patch("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", return_value={}),
        patch.object(FeatureExtractorInceptionV3, "load_state_dict"),
    ):
        network = FeatureExtractorInceptionV3("inception", ["64"])
    torch.save(network.state_dict(), path)
    return path


def pictures(count: int, seed: int, gain: int = 255) -> Pixels:
    """Smooth random images of 32 x 24 pixels."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 3, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (32, 24), mode="bilinear")
    return (smooth * gain).byte().permute(0, 2, 3, 1).numpy()


def written(folder: Path, images: Pixels) -> Path:
    """A folder of PNG files."""
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """30 real images and 22 generated ones."""
    root = tmp_path_factory.mktemp("sets")
    return written(root / "real", pictures(30, 0)), written(root / "generated", pictures(22, 1, gain=200))


def values(*arguments: Any, **fields: Any) -> dict[str, float]:
    """The metrics of a comparison."""
    options = ComparisonOptions(real=Path(arguments[0]), generated=Path(arguments[1]), **fields)
    return {result.metric: result.value for result in compare_images(options).results}  # type: ignore[misc]


@pytest.mark.filterwarnings("ignore:This DataLoader")
def test_numbers_are_torch_fidelitys(folders: tuple[Path, Path], weights: Path) -> None:
    """FID, KID, precision and recall of unequal sets, in the features of its own network with the same weights."""
    real, generated = folders
    expected = torch_fidelity.calculate_metrics(
        input1=str(generated),
        input2=str(real),
        cuda=False,
        fid=True,
        kid=True,
        prc=True,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(weights),
        feature_layer_fid="64",
        feature_layer_kid="64",
        feature_layer_prc="64",
        kid_subsets=1,
        kid_subset_size=22,
        batch_size=16,
        cache=False,
        verbose=False,
    )
    measured = values(real, generated, features=(f"inception:layer=64,weights={weights}",), batch_size=16)
    assert measured["frechet_inception_64"] == pytest.approx(expected["frechet_inception_distance"], rel=1e-4)
    assert measured["precision_inception_64"] == pytest.approx(expected["precision"], abs=1e-6)
    assert measured["recall_inception_64"] == pytest.approx(expected["recall"], abs=1e-6)
    assert measured["kid_inception_64"] == pytest.approx(
        expected["kernel_inception_distance_mean"], abs=1e-6
    )  # float32
    assert measured["sliced_wasserstein"] > 0


def test_npz_files_are_read_as_folders_are(folders: tuple[Path, Path], weights: Path, tmp_path: Path) -> None:
    """ADM's layout, mapped or compressed, equals the folders; swapped sets swap precision and recall."""
    real, generated = folders
    np.savez(tmp_path / "real.npz", pictures(30, 0))
    np.savez_compressed(tmp_path / "generated.npz", pictures(22, 1, gain=200))
    opened = [open_image_set(tmp_path / f"{name}.npz") for name in ("real", "generated")]
    assert [isinstance(images, ImageArray) and isinstance(images.array, np.memmap) for images in opened] == [
        True,
        False,
    ]
    of_layer: dict[str, Any] = {"features": (f"inception:layer=64,weights={weights}",), "with_spread": False}
    there = values(real, generated, **of_layer)
    back = values(tmp_path / "generated.npz", tmp_path / "real.npz", **of_layer)
    for name in ("frechet_inception_64", "sliced_wasserstein"):
        assert back[name] == pytest.approx(there[name], rel=1e-6)
    assert there["precision_inception_64"] == back["recall_inception_64"]


def test_statistics_stand_for_real_images(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """An npz file with ADM's statistics alone: what needs images is left out, with the reason."""
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(1280), sigma=np.eye(1280))
    options = ComparisonOptions(
        real=tmp_path / "statistics.npz", generated=folders[1], features=("efficientnet-lite0",), with_spread=False
    )
    with pytest.raises(DataError, match="holds statistics of real images, and no images"):
        compare_images(options)


def test_images_of_other_sizes_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Between the sets, and within one; with a resolution they are cropped and resized."""
    other = written(tmp_path / "other", pictures(22, 1)[:, :24])
    features: dict[str, Any] = {"features": ("efficientnet-lite0",), "with_spread": False, "num": 4}
    with pytest.raises(DataError, match="real images have 32x24 pixels, generated ones 24x24; give a resolution"):
        values(folders[0], other, **features)
    Image.fromarray(pictures(1, 5)[0]).save(other / "001.png")
    with pytest.raises(DataError, match=r"001\.png: 32x24 pixels, where the first one has 24x24"):
        values(other, other, **features)
    assert values(folders[0], other, resolution=16, **features)["sliced_wasserstein"] > 0
    assert open_image_set(other, 16)[1].data.shape == (3, 16, 16)


def test_statistics_are_read_for_the_features_that_they_are_of(
    folders: tuple[Path, Path], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an npz file with ADM's statistics: by FID's layer as their distance, and by no other network."""
    np.savez(tmp_path / "statistics.npz", mu=np.zeros(64), sigma=np.eye(64))
    monkeypatch.setattr(InceptionSpec, "has_published_statistics", lambda spec: spec.layer == "64")
    options = ComparisonOptions(
        real=tmp_path / "statistics.npz",
        generated=folders[1],
        features=(f"inception:layer=64,weights={weights}", "efficientnet-lite0"),
        with_spread=False,
        num=4,
    )
    comparison = compare_images(options)
    (result,) = comparison.results
    assert result.metric == "frechet_inception_64"
    assert result.spec["reference"].startswith("statistics.npz ")
    features = (
        InceptionSpec(layer="64", weights=weights)
        .build(BuildContext())(torch.from_numpy(pictures(22, 1, gain=200)[:4]).permute(0, 3, 1, 2) / 127.5 - 1)
        .double()
    )
    covariance = torch.cov(features.T)
    roots = torch.linalg.eigvalsh(covariance).clamp(min=0).sqrt()
    expected = features.mean(0).square().sum() + 64 + covariance.trace() - 2 * roots.sum()
    assert result.value == pytest.approx(float(expected), rel=1e-4)
    assert comparison.num_real is None
    assert "frechet of efficientnet_lite0" in comparison.left_out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": np.zeros((2, 8, 8, 3), np.uint8)}, "holds 'images'; expected images under 'arr_0'"),
        ({"arr_0": np.zeros((2, 8, 8, 3))}, r"'arr_0' of float64 and shape \(2, 8, 8, 3\); expected bytes"),
        ({"arr_0": np.zeros((2, 3, 8, 8), np.uint8)}, r"shape \(2, 3, 8, 8\); expected bytes"),
    ],
)
def test_npz_files_of_other_content_are_refused(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Another name, another type, and channels in front."""
    np.savez(tmp_path / "other.npz", **content)
    with pytest.raises(DataError, match=message):
        open_image_set(tmp_path / "other.npz")


def test_the_command_prints_and_writes(folders: tuple[Path, Path], weights: Path, tmp_path: Path) -> None:
    """A table, notes on few images, what was left out and why, and the JSON for programs."""
    arguments = [*map(str, folders), "--features", f"inception:layer=64,weights={weights}", "--num", "20"]
    done = CliRunner().invoke(app, ["compare", *arguments, "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    assert "20 real images, 20 generated ones, 32x24 pixels" in done.output
    assert "left out: fdr: fdr of halves of" in done.output
    content = json.loads((tmp_path / "out.json").read_text())
    metrics = content["metrics"]
    assert {"frechet_inception_64", "kid_inception_64", "precision_inception_64", "sliced_wasserstein"} <= set(metrics)
    assert all(metrics[name]["spread"] >= 0 for name in metrics)
    assert metrics["frechet_inception_64"]["spec"]["weights"]
    assert content["num_real"] == content["num_generated"] == 20


def test_missing_weights_name_what_can_be_used(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Inception's file: says where to put it, and which features are there."""
    monkeypatch.setenv("TORCH_HOME", str(folders[0]))
    with pytest.raises(SpecError, match=r"weights-inception.*other features: efficientnet-lite0, efficientnet-lite1"):
        values(*folders)
    with pytest.raises(SpecError, match="--features inceptoin: "):
        values(*folders, features=("inceptoin",))
