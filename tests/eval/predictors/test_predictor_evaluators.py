import math

import attrs
import pytest
import torch

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.evaluator import EvaluationBatch
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
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
    results = {result.metric: result for result in evaluator.compute()}
    assert results["viv"].value < 0.6 * results["viv_unconditional"].value
    assert results["viv"].spec["conditional"] is True
    assert results["viv"].spread > 0


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


AFFINE = {
    "viv": {"num_replicates": 4},
    "spatial-structure": {},
    "map-spectrum": {},
    "dct-spectrum": {},
    "neighbor-consistency": {"num_neighbors": 5},
    "uniformity": {"num_points": 60, "num_samples": 12},
    "equivariance": {},
    "interpolation": {},
    "chop-off": {"shares": [1.0, 0.25]},
}


class Rescaled(Autoencoder):
    """Another autoencoder whose latents are scaled and shifted channel by channel, and shifted back to be decoded."""

    def __init__(self, inner, scale, offset):
        super().__init__()
        self.inner, self.info = inner, inner.info
        self.scale, self.offset = (torch.tensor(values).view(-1, 1, 1) for values in (scale, offset))

    def encode(self, images):
        mean = self.inner.encode(images).mean
        return Posterior(mean=mean * self.scale + self.offset, logvar=torch.zeros_like(mean))

    def decode(self, latents):
        return self.inner.decode((latents - self.offset) / self.scale)


class WithDeadChannels(Autoencoder):
    """Another autoencoder with two more channels that are constant."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.info = inner, attrs.evolve(inner.info, latent_channels=5)

    def encode(self, images):
        mean = self.inner.encode(images).mean
        dead = torch.ones_like(mean[:, :2]) * torch.tensor([0.0, 3.7]).view(2, 1, 1)
        mean = torch.cat([dead[:, :1], mean, dead[:, 1:]], dim=1)
        return Posterior(mean=mean, logvar=torch.zeros_like(mean))

    def decode(self, latents):
        return self.inner.decode(latents[:, 1:4])


def headline(kind, images, autoencoder):
    """The numbers that are meant to be compared: no raw ones, and no curves."""
    evaluator = made(kind, **AFFINE[kind])
    with torch.no_grad():
        evaluator.update(batch_of(images[:12], autoencoder, range(12)))
        results = evaluator.compute()
    return {result.metric: result for result in results if result.curve is None and "_raw" not in result.metric}


@pytest.mark.parametrize("kind", AFFINE)
def test_headline_predictors_do_not_depend_on_the_scale_and_offset_of_channels(kind, setting):
    """A denoiser sees standardised latents: an affine map of each channel, undone by the decoder, changes nothing."""
    images, autoencoder = setting
    rescaled = Rescaled(autoencoder, scale=[0.25, -2.0, 8.0], offset=[2.0, -2.0, 4.0])
    plain, moved = (headline(kind, images, encoder) for encoder in (autoencoder, rescaled))
    assert plain.keys() == moved.keys()
    tolerance = 0.05 if kind == "uniformity" else 1e-3  # t-SNE magnifies rounding
    for metric, result in plain.items():
        assert moved[metric].value == pytest.approx(result.value, rel=tolerance, abs=1e-4), metric


@pytest.mark.parametrize("kind", AFFINE)
def test_constant_channels_are_left_out_and_counted(kind, setting):
    """Two dead channels change no predictor, and the results say how many there are."""
    images, autoencoder = setting
    plain, dead = (headline(kind, images, encoder) for encoder in (autoencoder, WithDeadChannels(autoencoder)))
    for metric, result in plain.items():
        assert dead[metric].value == pytest.approx(result.value, rel=1e-6, abs=1e-9), metric
    if kind not in ("interpolation", "chop-off"):  # these measure decoded images
        notes = {result.note for metric, result in dead.items() if not metric.startswith("rgb_")}
        assert all("2 of 5" in note for note in notes), notes
        assert not any("constant" in result.note for result in plain.values())


@pytest.mark.parametrize("kind", ["viv", "spatial-structure", "map-spectrum", "uniformity", "equivariance"])
def test_latents_that_are_constant_everywhere_are_refused(kind, setting):
    """scikit-learn's t-SNE crashes the process on such points: its start is divided by their spread, which is 0."""
    images, autoencoder = setting
    posterior = Posterior(mean=torch.full((12, 3, 16, 16), 0.3), logvar=None)
    batch = EvaluationBatch(
        indices=range(12), images=images[:12], latents=posterior.mean, posterior=posterior, autoencoder=autoencoder
    )
    evaluator = made(kind)
    evaluator.update(batch)
    with pytest.raises(DataError, match=f"{kind}: the latents are constant in every one of their 3 channels"):
        evaluator.compute()


def test_too_few_different_points_are_refused():
    latents = (torch.arange(12) % 4).float().view(12, 1, 1, 1).expand(12, 3, 8, 8)
    evaluator = made("uniformity", num_samples=12)
    evaluator.update(EvaluationBatch(indices=range(12), latents=latents))
    with pytest.raises(DataError, match="at least 10 different latent pixels, got 4 among 768"):
        evaluator.compute()


def test_few_samples_are_noted(noise):
    """(N - 1) C below H W: the spatial covariance is not determined by the samples alone."""
    few, many = (made("viv", num_replicates=0) for _ in range(2))
    few.update(EvaluationBatch(indices=range(8), latents=noise(8, 2, 8, 8)))
    many.update(EvaluationBatch(indices=range(40), latents=noise(40, 2, 8, 8)))
    assert "few samples: (N - 1) C / (H W) = 0.22" in few.compute()[0].note
    assert many.compute()[0].note == ""


def test_the_spread_of_the_velocity_variance_is_that_of_new_draws(noise):
    """The jackknife of single sets against the standard deviation over sets; white latents scaled image by image."""
    variances, spreads = [], []
    for seed in range(12):
        latents = noise(32, 2, 4, 4, seed=seed) * (1 + noise(32, 1, 1, 1, seed=100 + seed).abs())
        evaluator = made("viv")
        evaluator.update(EvaluationBatch(indices=range(32), latents=latents))
        result = evaluator.compute()[0]
        variances.append(result.value)
        spreads.append(result.spread)
    between = torch.tensor(variances).std().item()
    assert 0.5 * between < sum(spreads) / len(spreads) < 2 * between


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
