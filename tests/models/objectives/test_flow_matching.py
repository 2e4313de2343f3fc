import math
from collections.abc import Callable
from pathlib import Path

import pytest
import scipy.stats
import torch
from torch import Tensor

from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.objective import Batch
from diffusability.core.contracts.parametrisation import interpolate, velocity
from diffusability.core.errors import DataError, SpecError
from diffusability.core.models.saved_models import load_diffusion_model
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.objectives.denoising_objective import drop_labels, means_by_time
from diffusability.models.objectives.flow_matching import FlowMatching, logit_normal_times, uniform_times
from diffusability.models.samplers.euler import EulerSampler
from diffusability.models.specs.denoisers.dit import DIT_SIZES, DiTSize
from diffusability.models.specs.objectives.flow_matching import FlowMatchingSpec

SHAPE = (3, 4, 4)


@pytest.fixture(autouse=True)
def tiny_dit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes Ti a two-layer transformer, so that these tests are fast."""
    monkeypatch.setitem(DIT_SIZES, "Ti", DiTSize(2, 32, 2))


def objective_of(num_classes: int | None = 5, awake: bool = True, **settings: object) -> FlowMatching:
    torch.manual_seed(0)
    spec = FlowMatchingSpec(**{"denoiser": {"kind": "dit", "size": "Ti/2"}, **settings})
    objective = spec.build(BuildContext(latent_shape=SHAPE, num_classes=num_classes))
    assert isinstance(objective, FlowMatching)
    if awake:
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return objective


def many(count: int) -> BatchRandomness:
    return BatchRandomness(seed=3, step=0, positions=range(count))


def test_interpolation_runs_from_data_to_noise(noise: Callable[..., Tensor]) -> None:
    """Ends of the path against data and noise, and its slope against the velocity, for images and clips."""
    for shape in ((2, 3, 4, 4), (2, 3, 5, 4, 4)):
        latents, eps = noise(*shape, dtype=torch.float64), noise(*shape, seed=1, dtype=torch.float64)
        torch.testing.assert_close(interpolate(latents, eps, torch.zeros(2)), latents)
        torch.testing.assert_close(interpolate(latents, eps, torch.ones(2)), eps)
        slope = interpolate(latents, eps, torch.tensor([0.5, 0.25])) - interpolate(latents, eps, torch.zeros(2))
        torch.testing.assert_close(
            slope / torch.tensor([0.5, 0.25]).view(2, *[1] * (len(shape) - 1)), velocity(latents, eps)
        )


def test_logit_normal_times_have_that_distribution() -> None:
    """4,000 times against scipy's normal distribution of their logits (Kolmogorov-Smirnov)."""
    logits = torch.logit(logit_normal_times(many(4000), mean=-0.5, std=1.5).double())
    assert scipy.stats.kstest(logits.numpy(), scipy.stats.norm(-0.5, 1.5).cdf).pvalue > 0.01


def test_uniform_times_have_that_distribution() -> None:
    """4,000 times against scipy's uniform distribution (Kolmogorov-Smirnov)."""
    assert scipy.stats.kstest(uniform_times(many(4000)).numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("distribution", ["logit-normal", "uniform"])
def test_the_loss_equals_plain_torch(
    distribution: str, batch_of: Callable[..., Batch], noise: Callable[..., Tensor]
) -> None:
    """Loss, target and prediction against ``z_t = (1 - t) z + t eps`` written out on normalised latents."""
    objective = objective_of(time_distribution=distribution)
    objective.eval()
    mean, std = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([2.0, 0.5, 3.0])
    objective.use_normalizer(LatentNormalizer(mean, std))
    batch = batch_of(5 * noise(6, *SHAPE) + 1, torch.tensor([0, 1, 2, 3, 4, 0]))
    output = objective(batch)

    z = (batch.data - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    eps = batch.randomness.normal("noise", SHAPE)
    if distribution == "uniform":
        t = batch.randomness.uniform("time")
    else:
        t = 1 / (1 + torch.exp(-batch.randomness.normal("time", ())))
    t4 = t.view(-1, 1, 1, 1)
    predicted = objective.denoiser((1 - t4) * z + t4 * eps, t, batch.labels)
    torch.testing.assert_close(output.time, t)
    torch.testing.assert_close(output.target, eps - z)
    torch.testing.assert_close(output.prediction, predicted)
    torch.testing.assert_close(output.losses["velocity"], torch.nn.functional.mse_loss(predicted, eps - z))
    assert output.latents is batch.data
    assert objective.provides == FlowMatchingSpec.provides
    assert all(getattr(output, name) is not None for name in FlowMatchingSpec.provides)


def test_a_sample_is_noised_the_same_in_any_micro_batch(noise: Callable[..., Tensor]) -> None:
    """The loss of a batch of four against the mean of its halves, each with its own places."""
    objective = objective_of()
    data, labels = noise(4, *SHAPE), torch.tensor([0, 1, 2, 3])

    def loss(first: int, last: int) -> Tensor:
        randomness = BatchRandomness(seed=1, step=9, positions=range(first, last))
        batch = Batch(data=data[first:last], labels=labels[first:last], randomness=randomness)
        return objective(batch).losses["velocity"]

    torch.testing.assert_close(loss(0, 4), (loss(0, 2) + loss(2, 4)) / 2)


def test_dropped_labels_become_no_class() -> None:
    """Labels after dropping against those whose uniform number is below the share."""
    labels = torch.tensor([0, 1, 2, 3])
    dropped = drop_labels(labels, torch.tensor([0.05, 0.2, 0.1, 0.0]), 0.1, no_class=7)
    assert dropped.tolist() == [7, 1, 2, 7]


def test_labels_are_dropped_while_training_only(batch_of: Callable[..., Batch], noise: Callable[..., Tensor]) -> None:
    """Labels that reach the denoiser against the batch's own: a share of 0.3 in training, none in evaluation."""
    objective = objective_of(label_dropout=0.3)
    seen: list[Tensor] = []
    objective.denoiser.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2]))
    batch = batch_of(noise(400, *SHAPE), torch.arange(400) % 5)
    with torch.no_grad():
        objective(batch)
        objective.eval()
        objective(batch)
    dropped = seen[0] == 5
    assert torch.equal(seen[0][~dropped], batch.labels[~dropped])
    assert dropped.float().mean().item() == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 400))
    assert torch.equal(seen[1], batch.labels)


def test_an_unconditional_denoiser_ignores_labels_of_the_data(
    batch_of: Callable[..., Batch], noise: Callable[..., Tensor]
) -> None:
    """The loss of an unconditional model with labels in the batch against that without."""
    objective = objective_of(num_classes=None)
    data = noise(3, *SHAPE)
    with_labels = objective(batch_of(data, torch.tensor([0, 1, 2]))).losses["velocity"]
    torch.testing.assert_close(with_labels, objective(batch_of(data)).losses["velocity"], rtol=0, atol=0)


def test_monitors_split_the_loss_by_time() -> None:
    """Means in quarters of time against numbers worked out by hand; empty quarters are left out."""
    errors = torch.tensor([1.0, 3.0, 10.0, 5.0])
    time = torch.tensor([0.1, 0.2, 1.0, 0.5])
    means = {name: value.item() for name, value in means_by_time(errors, time).items()}
    assert means == {"velocity_t0.00-0.25": 2.0, "velocity_t0.50-0.75": 5.0, "velocity_t0.75-1.00": 10.0}


def test_monitors_of_a_step_average_to_its_loss(batch_of: Callable[..., Batch], noise: Callable[..., Tensor]) -> None:
    """The mean of the monitors, weighted by the samples in each quarter, against the loss; none has a gradient."""
    output = objective_of()(batch_of(noise(16, *SHAPE), torch.zeros(16, dtype=torch.long)))
    total = torch.zeros(())
    for name, value in output.monitors.items():
        low, high = (float(bound) for bound in name.removeprefix("velocity_t").split("-"))
        total += value * ((output.time >= low) & (output.time < high)).sum() / 16
        assert not value.requires_grad
    torch.testing.assert_close(total, output.losses["velocity"].detach())


def test_the_normalizer_travels_with_the_weights(batch_of: Callable[..., Batch]) -> None:
    """The statistics in the state dict against those handed over; it starts as the identity."""
    objective = objective_of()
    assert torch.equal(objective.normalizer.std, torch.ones(3))
    objective.use_normalizer(LatentNormalizer(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0])))
    state = objective.state_dict()
    assert state["normalizer.mean"].tolist() == [1, 2, 3]
    assert state["normalizer.std"].tolist() == [4, 5, 6]


def test_a_normalizer_for_other_channels_is_refused() -> None:
    """The message names both numbers of channels, also when one could be broadcast."""
    with pytest.raises(DataError, match="latents of 1 channels, the denoiser's have 3"):
        objective_of().use_normalizer(LatentNormalizer.identity(1))


@torch.no_grad()
def test_the_preview_decodes_denormalised_samples(batch_of: Callable[..., Batch], noise: Callable[..., Tensor]) -> None:
    """Preview images against sampling, denormalising and clamping written out, with the batch's labels."""
    objective = objective_of()
    objective.use_normalizer(LatentNormalizer(torch.full((3,), 0.1), torch.full((3,), 0.2)))
    batch = batch_of(noise(2, *SHAPE), torch.tensor([1, 4]))
    sampler = EulerSampler(steps=3)
    rows = objective.preview(batch, sampler, lambda latents: 2 * latents)
    start = batch.randomness.normal("preview", SHAPE)
    expected = 2 * (0.2 * sampler.sample(objective.denoiser, start, batch.labels) + 0.1)
    torch.testing.assert_close(rows["samples"], expected.clamp(-1, 1))
    assert objective.preview(batch, None, None) == {}


def test_a_saved_model_predicts_the_same(tmp_path: Path, noise: Callable[..., Tensor]) -> None:
    """Predictions and normaliser of the loaded model against the saved one, bit by bit."""
    objective = objective_of()
    objective.use_normalizer(LatentNormalizer(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0])))
    objective.save(tmp_path)
    model = load_diffusion_model(tmp_path)
    latents, time, labels = noise(2, *SHAPE), torch.tensor([0.3, 0.8]), torch.tensor([0, 5])
    expected = objective.denoiser(latents, time, labels)
    torch.testing.assert_close(model.denoiser(latents, time, labels), expected, rtol=0, atol=0)
    assert (model.latent_shape, model.num_classes) == (SHAPE, 5)
    torch.testing.assert_close(model.normalizer.denormalize(latents), objective.normalizer.denormalize(latents))


def stage_context(directory: Path, **changes: object) -> BuildContext:
    return BuildContext(
        **{"latent_shape": SHAPE, "num_classes": 5, "stage_directory": lambda name: directory, **changes}
    )


def test_training_continues_from_an_earlier_stage_and_saves_itself_whole(
    tmp_path: Path, noise: Callable[..., Tensor]
) -> None:
    """A denoiser taken from a stage against the one that was saved; what it saves loads without that stage."""
    first = objective_of()
    first.save(tmp_path / "model")
    spec = FlowMatchingSpec(denoiser={"kind": "stage", "stage": "earlier"})
    second = spec.build(stage_context(tmp_path))
    assert isinstance(second, FlowMatching)
    second.save(tmp_path / "again")
    loaded = load_diffusion_model(tmp_path / "again").denoiser
    latents, time = noise(2, *SHAPE), torch.tensor([0.3, 0.8])
    torch.testing.assert_close(loaded(latents, time, None), first.denoiser(latents, time, None), rtol=0, atol=0)


def test_an_earlier_denoiser_for_other_data_is_refused(tmp_path: Path) -> None:
    """The message names both shapes and both numbers of classes."""
    objective_of().save(tmp_path / "model")
    spec = FlowMatchingSpec(denoiser={"kind": "stage", "stage": "earlier"})
    with pytest.raises(SpecError, match=r"stage 'earlier' .* \(3, 4, 4\) and 5 classes; .* \(3, 4, 4\) and 9 classes"):
        spec.build(stage_context(tmp_path, num_classes=9))


def test_a_missing_latent_shape_is_refused() -> None:
    """The message names the denoiser's kind."""
    with pytest.raises(SpecError, match="denoiser 'dit' needs to know the shape"):
        FlowMatchingSpec(denoiser={"kind": "dit"}).build(BuildContext())


def test_training_lowers_the_loss(batch_of: Callable[..., Batch], noise: Callable[..., Tensor]) -> None:
    """The mean loss of the last of 60 AdamW steps on two points against that of the first."""
    objective = objective_of(awake=False)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    points = noise(2, *SHAPE, seed=4)
    data, labels = points.repeat(8, 1, 1, 1), torch.tensor([0, 1]).repeat(8)
    losses = []
    for step in range(60):
        loss = objective(batch_of(data, labels, step=step)).losses["velocity"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
