import math

import pytest
import torch

from diffusability.core.build import BuildContext
from diffusability.core.errors import DataError
from diffusability.core.evaluator import EvaluationBatch
from diffusability.core.specs.components import EvaluatorSpec

KINDS = (
    "viv",
    "spatial-structure",
    "map-spectrum",
    "neighbor-consistency",
    "uniformity",
    "equivariance",
    "interpolation",
    "worst-reconstructions",
)


def made(kind, **fields):
    return EvaluatorSpec.model_validate({"kind": kind, **fields}).build(BuildContext())


def batch_of(images, autoencoder, indices):
    posterior = autoencoder.encode(images)
    latents = posterior.mode()
    return EvaluationBatch(
        indices=indices,
        images=images,
        labels=torch.tensor([index % 2 for index in indices]),
        posterior=posterior,
        latents=latents,
        reconstruction=autoencoder.decode(latents),
        autoencoder=autoencoder,
    )


def values(evaluator):
    return {
        result.metric: result.value if result.curve is None else [*result.curve.x, *result.curve.y]
        for result in evaluator.compute()
    }


@pytest.fixture
def setting(photographs, pooling):
    """24 crops of photographs and an encoder that pools by 2, so that latents are 16x16."""
    return photographs(24, 32), pooling(2)


FIELDS = {
    "viv": {"num_replicates": 0},
    "uniformity": {"num_points": 120, "num_samples": 24},
    "neighbor-consistency": {"num_neighbors": 5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_batches_and_ranks(kind, setting):
    """One batch against batches of other sizes in another order, half of them merged from another rank's evaluator."""
    images, autoencoder = setting
    fields = FIELDS.get(kind, {})
    whole, first, second = (made(kind, **fields) for _ in range(3))
    whole.update(batch_of(images, autoencoder, range(24)))
    for evaluator, start, stop in ((second, 17, 24), (first, 0, 5), (second, 5, 6), (first, 6, 17)):
        evaluator.update(batch_of(images[start:stop], autoencoder, range(start, stop)))
    first.merge(second.state())
    expected = values(whole)
    result = values(first)
    assert result.keys() == expected.keys()
    for metric, value in expected.items():
        assert result[metric] == pytest.approx(value, rel=1e-9, abs=1e-12), metric


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluator_without_samples_says_so(kind):
    with pytest.raises(DataError, match=r"no \w+ were evaluated"):
        made(kind).compute()


@pytest.mark.parametrize("kind", ["viv", "spatial-structure", "map-spectrum", "uniformity", "equivariance"])
def test_clips_are_evaluated_too(kind, photographs, pooling):
    """Clips of one repeated frame, so that nothing is undefined; every number is finite."""
    images, autoencoder = photographs(6, 32), pooling(2)
    clips = images[:, :, None].repeat(1, 1, 3, 1, 1) + 0.1 * torch.arange(3).view(1, 1, 3, 1, 1)
    fields = {"viv": {"num_replicates": 2}, "uniformity": {"num_samples": 6, "num_points": 120}}
    evaluator = made(kind, **fields.get(kind, {}))
    evaluator.update(batch_of(clips, autoencoder, range(6)))
    results = evaluator.compute()
    assert all(math.isfinite(result.value) for result in results if result.value is not None)
    assert ("temporal_spectrum_curve" in {result.metric for result in results}) == (kind == "map-spectrum")


def test_pooling_latents_are_equivariant(setting):
    """Theory: average pooling commutes with all four transformations."""
    images, autoencoder = setting
    evaluator = made("equivariance")
    evaluator.update(batch_of(images, autoencoder, range(24)))
    assert {metric: round(value, 9) for metric, value in values(evaluator).items()} == {
        f"{name}_equivariance_error{suffix}": 0
        for name in ("scale", "rotation", "flip", "shift")
        for suffix in ("", "_raw")
    }


def test_a_linear_decoder_interpolates_directly(setting):
    """Theory: repeating pixels is linear, so the decoded path is straight."""
    images, autoencoder = setting
    evaluator = made("interpolation")
    evaluator.update(batch_of(images, autoencoder, range(24)))
    assert values(evaluator)["interpolation_smoothness"] == pytest.approx(1, abs=1e-6)


def test_classes_lower_the_velocity_variance(noise):
    """Latents of two classes with far means: within classes they are compact, so viv falls below the unconditional."""
    latents = noise(64, 2, 4, 4)
    labels = torch.arange(64) % 2
    latents = latents + 6 * (labels.view(-1, 1, 1, 1) - 0.5)
    evaluator = made("viv", num_replicates=4)
    evaluator.update(EvaluationBatch(indices=range(64), latents=latents, labels=labels))
    found = {result.metric: result for result in evaluator.compute()}
    assert found["viv"].value < 0.6 * found["viv_unconditional"].value
    assert found["viv"].spec["conditional"] is True
    assert found["viv"].spread > 0


def test_white_latents_have_the_velocity_variance_of_white_noise(noise):
    """Closed form: pi / 2, less a little because the covariance is estimated."""
    evaluator = made("viv", num_replicates=0)
    evaluator.update(EvaluationBatch(indices=range(500), latents=noise(500, 4, 4, 4)))
    assert values(evaluator)["viv"] == pytest.approx(math.pi / 2, rel=0.01)


def test_latents_smoother_than_noise_concentrate_energy(setting, noise):
    """Pooled photographs against white noise: less energy at high frequencies and a steeper slope, near RGB's own."""
    images, autoencoder = setting
    photographs, white = made("map-spectrum"), made("map-spectrum")
    batch = batch_of(images, autoencoder, range(24))
    photographs.update(batch)
    white.update(EvaluationBatch(indices=range(24), images=images, latents=noise(24, 3, 16, 16)))
    smooth, rough = values(photographs), values(white)
    assert smooth["sec"] == pytest.approx(smooth["rgb_sec"], rel=1e-5)
    assert smooth["sec"] < 0.2 * rough["sec"]
    assert smooth["spectral_slope"] < -0.7 < -0.1 < rough["spectral_slope"]


def test_figures_are_written(setting, tmp_path):
    images, autoencoder = setting
    written = []
    for kind in ("map-spectrum", "worst-reconstructions"):
        evaluator = made(kind)
        evaluator.update(batch_of(images, autoencoder, range(24)))
        written += [path.name for path in evaluator.draw(tmp_path)]
    assert [name for name in written if name.endswith(".png")] == [
        "map-spectrum.png",
        "worst-reconstructions-pictures.png",
    ]
    assert all((tmp_path / name).stat().st_size > 1000 for name in written)


def test_the_worst_images_are_those_of_lowest_psnr(setting):
    """Against PSNR computed for each image by itself."""
    images, autoencoder = setting
    evaluator = made("worst-reconstructions", num_pictures=3)
    batch = batch_of(images, autoencoder, range(24))
    evaluator.update(batch)
    errors = (images - batch.reconstruction).square().flatten(1).mean(1)
    (result,) = evaluator.compute()
    assert result.value == pytest.approx(10 * math.log10(4 / errors.max().item()), rel=1e-6)
    assert result.spec["image"] == int(errors.argmax())
