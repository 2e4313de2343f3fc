from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.objective import Batch
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.errors import SpecError
from diffusability.core.models.saved_models import load_autoencoder
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.models.objectives.reconstruction import Reconstruction, psnr
from diffusability.models.objectives.trained_parts import freeze_decoder_tail
from diffusability.models.specs.objectives.reconstruction import ReconstructionSpec


class Deterministic(Autoencoder):
    """Latents are mean-pooled images; names no decoder tail."""

    info = AutoencoderInfo(latent_channels=3, spatial_factor=2)

    def encode(self, images: Tensor) -> Posterior:
        return Posterior(mean=F.avg_pool2d(images, 2))

    def decode(self, latents: Tensor) -> Tensor:
        return F.interpolate(latents, scale_factor=2)


def objective_of(**settings: object) -> Reconstruction:
    torch.manual_seed(0)
    autoencoder = {"kind": "compact-kl", "spatial_factor": 4, "latent_channels": 4, "width": 16, "blocks": 1}
    spec = ReconstructionSpec(**{"autoencoder": autoencoder, **settings})
    objective = spec.build(BuildContext())
    assert isinstance(objective, Reconstruction)
    return objective


@pytest.mark.parametrize(("l1", "mse"), [(1.0, 0.0), (0.0, 2.0), (0.5, 3.0)])
def test_the_loss_is_the_weighted_sum_of_torch_losses(l1: float, mse: float, smooth_images: Callable) -> None:
    """The loss against ``F.l1_loss`` and ``F.mse_loss``."""
    objective = objective_of(l1=l1, mse=mse)
    images, other = smooth_images(2, 8), 0.3 * smooth_images(2, 8).flip(0)
    expected = l1 * F.l1_loss(other, images) + mse * F.mse_loss(other, images)
    torch.testing.assert_close(objective.reconstruction_loss(images, other), expected)


def test_the_loss_is_computed_in_float32(smooth_images: Callable) -> None:
    """The loss of a bf16 reconstruction against float32 arithmetic on the same values."""
    images, other = smooth_images(2, 8), smooth_images(2, 8).flip(0).bfloat16()
    loss = objective_of().reconstruction_loss(images, other)
    torch.testing.assert_close(loss, (images - other.float()).abs().mean())


def test_a_step_decodes_a_sample_of_the_posterior(batch_of: Callable[..., Batch], smooth_images: Callable) -> None:
    """Every provided field against encode, sample and decode written out with the batch's own noise."""
    objective = objective_of()
    batch = batch_of(smooth_images(3, 16))
    output = objective(batch)
    posterior = objective.autoencoder.encode(batch.data)
    latents = posterior.sample(batch.randomness.normal("posterior", (4, 4, 4)))
    assert output.images is batch.data
    torch.testing.assert_close(output.latents, latents)
    torch.testing.assert_close(output.reconstruction, objective.autoencoder.decode(latents))
    torch.testing.assert_close(output.losses["reconstruction"], F.l1_loss(output.reconstruction, batch.data))
    assert all(getattr(output, name) is not None for name in ReconstructionSpec.provides)
    assert objective.provides == ReconstructionSpec.provides


def test_the_autoencoder_in_training_is_seen_and_trained() -> None:
    """The objective's ``autoencoder`` and parameters against the autoencoder that was built."""
    objective = objective_of()
    assert isinstance(objective.autoencoder, Autoencoder)
    assert list(objective.parameters()) == list(objective.autoencoder.parameters())


def test_psnr_agrees_with_torchmetrics(noise: Callable[..., Tensor]) -> None:
    """PSNR of each image against torchmetrics with a data range of 2."""
    images = noise(3, 3, 8, 8).clamp(-1, 1)
    other = (images + 0.1 * noise(3, 3, 8, 8, seed=1)).clamp(-1, 1)
    expected = [peak_signal_noise_ratio(b, a, data_range=2.0) for a, b in zip(images, other, strict=True)]
    torch.testing.assert_close(psnr(images, other), torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_psnr_of_a_perfect_image_is_finite(noise: Callable[..., Tensor]) -> None:
    """PSNR of an image with itself against the documented ceiling of 100 dB."""
    images = noise(1, 3, 8, 8).clamp(-1, 1)
    torch.testing.assert_close(psnr(images, images), torch.tensor([100.0]))


def test_monitors_are_detached_and_correct(batch_of: Callable[..., Batch], smooth_images: Callable) -> None:
    """Monitors against the KL of torch.distributions, numpy's standard deviation and PSNR; without gradients."""
    output = objective_of()(batch_of(smooth_images(2, 16)))
    assert output.posterior is not None
    assert output.posterior.logvar is not None
    normal = torch.distributions.Normal(output.posterior.mean, (0.5 * output.posterior.logvar).exp())
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(output.monitors["kl_per_dim"], kl.detach(), rtol=1e-4, atol=1e-5)
    assert output.monitors["latent_std"].item() == pytest.approx(output.latents.detach().numpy().std(), rel=1e-4)
    torch.testing.assert_close(output.monitors["psnr"], psnr(output.images, output.reconstruction.detach()).mean())
    assert not any(value.requires_grad for value in output.monitors.values())


def test_a_deterministic_autoencoder_trains_without_a_kl_monitor(
    batch_of: Callable[..., Batch], smooth_images: Callable
) -> None:
    """The step of an autoencoder without a log variance: a loss, and no KL."""
    loss = objective_of().loss
    objective = Reconstruction(autoencoder=Deterministic(), loss=loss)
    output = objective(batch_of(smooth_images(2, 8)))
    assert set(output.monitors) == {"psnr", "latent_std"}
    assert output.losses["reconstruction"] > 0


def test_a_frozen_tail_keeps_its_weights(batch_of: Callable[..., Batch], smooth_images: Callable) -> None:
    """Weights after an optimizer step against those before: the tail's are the same, all others moved."""
    objective = objective_of(freeze_decoder_tail=True)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    before = {name: value.clone() for name, value in objective.autoencoder.state_dict().items()}
    optimizer = torch.optim.AdamW((p for p in objective.parameters() if p.requires_grad), lr=1e-3)
    objective(batch_of(smooth_images(2, 16))).losses["reconstruction"].backward()
    optimizer.step()
    after = objective.autoencoder.state_dict()
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert kept == {"decoder.2.weight", "decoder.2.bias", "decoder.4.weight", "decoder.4.bias"}


def test_freezing_a_tail_that_is_not_named_is_refused() -> None:
    """The message names the autoencoder's class."""
    with pytest.raises(SpecError, match="Deterministic names no decoder tail"):
        freeze_decoder_tail(Deterministic(), True, is_pretrained=True)
    freeze_decoder_tail(Deterministic(), None, is_pretrained=True)  # not asked for: nothing to freeze


@torch.no_grad()
def test_the_preview_shows_input_reconstruction_and_half_size(
    batch_of: Callable[..., Batch], smooth_images: Callable
) -> None:
    """Titles and sizes, and values against [-1, 1] even when the decoder leaves it."""
    objective = objective_of()
    objective.autoencoder.shortcut.to_patch.weight.mul_(50)
    rows = objective.preview(batch_of(smooth_images(2, 16)), None, None)
    sizes = {title: tuple(row.shape) for title, row in rows.items()}
    assert sizes == {
        "input": (2, 3, 16, 16),
        "reconstruction": (2, 3, 16, 16),
        "decoded from latents at half size": (2, 3, 8, 8),
    }
    assert all(row.abs().max() <= 1 for row in rows.values())


@torch.no_grad()
def test_the_preview_leaves_out_what_cannot_be_halved(batch_of: Callable[..., Batch], smooth_images: Callable) -> None:
    """Titles for images whose latents have an odd side."""
    rows = objective_of().preview(batch_of(smooth_images(1, 12)), None, None)
    assert set(rows) == {"input", "reconstruction"}


def test_a_saved_autoencoder_decodes_the_same(tmp_path: Path, smooth_images: Callable) -> None:
    """Reconstructions of the loaded autoencoder against those of the saved one, bit by bit."""
    objective = objective_of()
    objective.save(tmp_path)
    loaded = load_autoencoder(tmp_path)
    images = smooth_images(2, 16)
    expected = objective.autoencoder.decode(objective.autoencoder.encode(images).mode())
    torch.testing.assert_close(loaded.decode(loaded.encode(images).mode()), expected, rtol=0, atol=0)


def test_training_overfits_a_few_smooth_images(batch_of: Callable[..., Batch], smooth_images: Callable) -> None:
    """The loss after 60 steps of AdamW on four images against the first, and the PSNR against 25 dB."""
    objective = objective_of(autoencoder={"kind": "compact-kl", "latent_channels": 8, "width": 32, "blocks": 1})
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3, betas=(0.9, 0.99))
    images = smooth_images(4, 32)
    history = []
    for step in range(60):
        output = objective(batch_of(images, step=step))
        optimizer.zero_grad()
        output.losses["reconstruction"].backward()
        optimizer.step()
        history.append((output.losses["reconstruction"].item(), output.monitors["psnr"].item()))
    assert history[-1][0] < 0.15 * history[0][0]
    assert history[-1][1] > 25


def test_noise_on_latents_has_a_level_for_each_sample_and_is_for_training(
    smooth_images: Callable, noise: Callable
) -> None:
    """Noise over 3,000 samples: ``tau |n|`` times a normal, of second moment tau^2 and fourth 9 tau^4; the same for the
    same step; none in eval mode, none in what is monitored."""
    objective = Reconstruction(autoencoder=Deterministic(), loss=objective_of().loss, latent_noise=0.5)
    images = noise(3000, 3, 4, 4).clamp(-1, 1)
    batch = Batch(data=images, labels=None, randomness=BatchRandomness(seed=0, step=3, positions=range(3000)))
    output = objective(batch)
    clean = F.avg_pool2d(images, 2)
    added = (output.latents - clean).double()
    assert added.square().mean().item() == pytest.approx(0.25, rel=0.1)
    assert added.pow(4).mean().item() == pytest.approx(9 * 0.5**4, rel=0.3)
    levels = added.flatten(1).square().mean(1).sqrt()
    assert levels.min() < 0.05
    assert levels.max() > 1.0
    torch.testing.assert_close(output.reconstruction, F.interpolate(output.latents, scale_factor=2))
    torch.testing.assert_close(objective(batch).latents, output.latents, rtol=0, atol=0)
    torch.testing.assert_close(output.monitors["latent_std"], clean.std(correction=0))
    torch.testing.assert_close(objective.eval()(batch).latents, clean, rtol=0, atol=0)
    assert objective_of(latent_noise=0.8).latent_noise == 0.8
