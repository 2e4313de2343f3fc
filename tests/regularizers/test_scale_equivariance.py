from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusability.core.autoencoder import Autoencoder
from diffusability.core.build import AutoencoderInfo, BuildContext
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import TrainingError
from diffusability.core.objective import Batch
from diffusability.core.posterior import Posterior
from diffusability.regularizers.scale_equivariance import scale_equivariance_loss, shrink
from diffusability.regularizers.specs import KLSpec, ScaleEquivarianceSpec

Task = Callable[..., TrainTask]
MakeBatch = Callable[..., Batch]
Noise = Callable[..., Tensor]


class LinearConvolutions(Autoencoder):
    """One strided convolution each way, and a constant log variance."""

    info = AutoencoderInfo(latent_channels=4, spatial_factor=2)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Conv2d(3, 4, 4, stride=2, padding=1)
        self.decoder = nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1)
        self.double()

    def encode(self, images: Tensor) -> Posterior:
        mean = self.encoder(images)
        return Posterior(mean=mean, logvar=torch.full_like(mean, -4.0))

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)


class Identity(Autoencoder):
    """Latents are images: equivariant to everything."""

    info = AutoencoderInfo(latent_channels=3, spatial_factor=1)

    def encode(self, images: Tensor) -> Posterior:
        return Posterior(mean=images)

    def decode(self, latents: Tensor) -> Tensor:
        return latents


class CausalPairs(Identity):
    """Halves time: the first frame alone, the average of each pair after it; decoding repeats. Space is left alone."""

    info = AutoencoderInfo(latent_channels=3, spatial_factor=1, temporal_factor=2)

    def encode(self, images: Tensor) -> Posterior:
        pairs = (images[:, :, 1::2] + images[:, :, 2::2]) / 2
        return Posterior(mean=torch.cat([images[:, :, :1], pairs], 2))

    def decode(self, latents: Tensor) -> Tensor:
        return torch.cat([latents[:, :, :1], latents[:, :, 1:].repeat_interleave(2, 2)], 2)


class Unfinished(Identity):
    """Decodes to a fixed size whatever it is given, as a decoder with a learned position grid would."""

    def decode(self, latents: Tensor) -> Tensor:
        return F.interpolate(latents, (16, 16))


def term_of(task: TrainTask, batch: Batch, **fields: Any) -> Tensor:
    regularizer = ScaleEquivarianceSpec(**fields).build(BuildContext())
    return regularizer(task.objective(batch), task)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("resampling", ["bilinear", "mean", "antialias"])
def test_loss_and_gradients_are_those_of_plain_torch(
    factor: int,
    resampling: Literal["bilinear", "mean", "antialias"],
    task_of: Task,
    batch_of: MakeBatch,
    noise: Noise,
) -> None:
    """The regularizer in a real task against the formula written in plain torch, for encoder and decoder."""
    images = noise(2, 3, 16, 16)
    task, twin = task_of(LinearConvolutions()), LinearConvolutions()
    loss = term_of(task, batch_of(images), factors=[factor], resampling=resampling)
    loss.backward()

    def down(maps: Tensor) -> Tensor:
        if resampling == "mean":
            return F.avg_pool2d(maps, factor)
        return F.interpolate(maps, scale_factor=1 / factor, mode="bilinear", antialias=resampling == "antialias")

    mean = twin.encoder(images)
    eps = batch_of(images).randomness.normal("posterior", mean.shape[1:])
    latents = mean + torch.exp(torch.tensor(-2.0)) * eps
    expected = (down(images) - twin.decoder(down(latents))).abs().mean()
    expected.backward()

    torch.testing.assert_close(loss, expected)
    ours = dict(task.objective.autoencoder.named_parameters())
    for name, parameter in twin.named_parameters():
        assert parameter.grad.abs().sum() > 0
        torch.testing.assert_close(ours[name].grad, parameter.grad, msg=name)


@pytest.mark.parametrize("resampling", ["bilinear", "mean", "antialias"])
def test_a_scale_equivariant_autoencoder_has_no_loss(
    resampling: Literal["bilinear", "mean", "antialias"], task_of: Task, batch_of: MakeBatch, noise: Noise
) -> None:
    """The identity, on images and on clips, against exactly 0."""
    task = task_of(Identity())
    for images in (noise(2, 3, 16, 8), noise(2, 3, 5, 8, 8)):
        assert term_of(task, batch_of(images), resampling=resampling, each_step="all").item() == 0


def test_all_factors_are_averaged(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """``each_step: all`` against the mean of the single factors' losses."""
    task, batch = task_of(LinearConvolutions()), batch_of(noise(2, 3, 16, 16))
    single = [term_of(task, batch, factors=[factor]) for factor in (2, 4, 8)]
    assert len({round(loss.item(), 6) for loss in single}) == 3
    torch.testing.assert_close(
        term_of(task, batch, factors=[2, 4, 8], each_step="all"), torch.stack(single).mean(), rtol=1e-12, atol=0
    )


def test_one_factor_is_drawn_for_a_step(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """Over 40 steps, each loss is that of one factor, and each factor has its share."""
    task, images = task_of(LinearConvolutions()), noise(1, 3, 16, 16)
    drawn: list[int] = []
    for step in range(40):
        batch = batch_of(images, step)
        loss = term_of(task, batch, factors=[2, 4]).item()
        singles = {factor: term_of(task, batch, factors=[factor]).item() for factor in (2, 4)}
        drawn += [factor for factor, single in singles.items() if single == loss]
    assert len(drawn) == 40
    assert 10 <= drawn.count(2) <= 30


def test_micro_batches_of_a_step_share_the_factor(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """The loss of a batch against the mean of its halves', at their places: equal at every step only if they do."""
    task, images = task_of(LinearConvolutions()), noise(4, 3, 16, 16)
    for step in range(12):
        whole = term_of(task, batch_of(images, step))
        halves = [term_of(task, batch_of(images[k : k + 2], step, first=k)) for k in (0, 2)]
        torch.testing.assert_close(torch.stack(halves).mean(), whole, rtol=1e-10, atol=0)


def test_gradients_of_the_function(noise: Noise) -> None:
    """Autograd against finite differences in images, latents and weights, with a smooth distance."""
    images, latents = noise(1, 3, 8, 8).requires_grad_(), noise(1, 2, 4, 4, seed=1).requires_grad_()
    weight = noise(2, 3, 2, 2, seed=2).requires_grad_()

    def loss(images: Tensor, latents: Tensor, weight: Tensor) -> Tensor:
        return scale_equivariance_loss(
            images, latents, lambda z: F.conv_transpose2d(z, weight, stride=2), F.mse_loss, factor=2
        )

    assert torch.autograd.gradcheck(loss, (images, latents, weight))


def test_clips_are_shortened_to_what_a_causal_decoder_returns(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """A decoder that doubles time against the loss by hand: 9 frames become 5, 5 latent frames become 3."""
    clips = noise(1, 3, 9, 8, 8)
    loss = term_of(task_of(CausalPairs()), batch_of(clips), factors=[2])
    small = F.avg_pool3d(clips, (1, 2, 2))
    pair = [small[:, :, k : k + 2].mean(2) for k in (1, 3, 5, 7)]
    difference = [small[:, :, 0] - small[:, :, 0]]
    for first, second in ((0, 1), (2, 3)):
        decoded = (pair[first] + pair[second]) / 2  # latent frames are the pairs' means, and pooled once more
        difference += [pair[first] - decoded, pair[second] - decoded]
    torch.testing.assert_close(loss, torch.stack(difference, 2).abs().mean())


def test_time_can_be_left_alone(noise: Noise) -> None:
    """A clip's length with and without shortening; height and width shrink either way."""
    clips = noise(1, 3, 5, 8, 8)
    assert shrink(clips, 2).shape == (1, 3, 3, 4, 4)
    assert shrink(clips, 2, shorten_time=False).shape == (1, 3, 5, 4, 4)


def test_terms_and_total_in_a_real_task(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """A task with both regularizers of this package: its total against the weighted sum of its terms."""
    specs = (KLSpec(weight=0.5), ScaleEquivarianceSpec(weight=0.25))
    modules = {spec.kind: spec.build(BuildContext()) for spec in specs}
    task = task_of(LinearConvolutions(), specs, modules)
    output = task(batch_of(noise(2, 3, 16, 16)))
    terms = output.terms
    assert set(terms) == {"l1", "kl", "scale-equivariance"}
    assert all(term > 0 for term in terms.values())
    expected = terms["l1"] + 0.5 * terms["kl"] + 0.25 * terms["scale-equivariance"]
    torch.testing.assert_close(output.loss.detach(), expected.to(output.loss))


def error_cases() -> Sequence[tuple[Autoencoder | None, tuple[int, ...], type[Exception], str]]:
    return [
        (Unfinished(), (2, 3, 16, 16), TrainingError, r"to shape \(2, 3, 16, 16\); expected the shape \(2, 3, 8, 8\)"),
        (Identity(), (2, 3, 9, 8), ValueError, "9x8 map cannot be downsampled by 2"),
        (Identity(), (2, 3, 4, 8, 8), ValueError, "4 frames cannot be shortened by 2"),
    ]


@pytest.mark.parametrize(("autoencoder", "shape", "error", "message"), error_cases())
def test_what_does_not_fit_is_an_error(
    autoencoder: Autoencoder,
    shape: tuple[int, ...],
    error: type[Exception],
    message: str,
    task_of: Task,
    batch_of: MakeBatch,
    noise: Noise,
) -> None:
    """Messages with the shapes found and expected."""
    with pytest.raises(error, match=message):
        term_of(task_of(autoencoder), batch_of(noise(*shape)), factors=[2])


def test_an_objective_without_an_autoencoder_is_an_error(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """The message names the objective's class."""
    batch = batch_of(noise(2, 3, 8, 8))
    output = task_of(Identity()).objective(batch)
    with pytest.raises(TrainingError, match="needs an objective that trains an autoencoder; Reconstruction has none"):
        ScaleEquivarianceSpec().build(BuildContext())(output, task_of(None))
