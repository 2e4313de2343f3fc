from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toy_autoencoders import CausalPairs, Identity, LinearConvolutions, Unfinished

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import TrainingError
from diffusability.core.specs.build_context import BuildContext
from diffusability.regularizers.specs.kl import KLSpec
from diffusability.regularizers.specs.scale_equivariance import ScaleEquivarianceSpec
from diffusability.regularizers.terms.scale_equivariance import scale_equivariance_loss, shrunk

Task = Callable[..., TrainTask]
MakeBatch = Callable[..., Batch]
Noise = Callable[..., Tensor]


def term_of(task: TrainTask, batch: Batch, **fields: Any) -> Tensor:
    regularizer = ScaleEquivarianceSpec(**fields).build(BuildContext())
    return regularizer(task.objective(batch), task.objective)


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


def test_by_default_every_pixel_counts(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """The default at factor 4 against average pooling of blocks, as the authors' code does; a change of a corner pixel
    of a block, which bilinear interpolation never reads, is seen."""
    images = noise(2, 3, 16, 16)
    task, twin = task_of(LinearConvolutions()), LinearConvolutions()
    mean = twin.encoder(images)
    eps = batch_of(images).randomness.normal("posterior", mean.shape[1:])
    small = F.avg_pool2d(mean + torch.exp(torch.tensor(-2.0)) * eps, 4)
    expected = (F.avg_pool2d(images, 4) - twin.decoder(small)).abs().mean()
    torch.testing.assert_close(term_of(task, batch_of(images), factors=[4]), expected)
    corners = torch.zeros(1, 1, 8, 8)
    corners[..., ::4, ::4] = 1
    torch.testing.assert_close(shrunk(corners, (2, 2)), torch.full((1, 1, 2, 2), 1 / 16))
    assert shrunk(corners, (2, 2), resampling="bilinear").abs().max() == 0


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


def test_time_is_really_shortened(noise: Noise) -> None:
    """A clip's length and its frames by slicing, with and without a temporal factor."""
    clips = noise(1, 3, 5, 8, 8)
    assert shrunk(clips, (4, 4)).shape == (1, 3, 5, 4, 4)
    short = shrunk(clips, (4, 4), 2)
    small = F.avg_pool3d(clips, (1, 2, 2))
    expected = [small[:, :, 0], small[:, :, 1:3].mean(2), small[:, :, 3:5].mean(2)]
    torch.testing.assert_close(short, torch.stack(expected, 2))


@pytest.mark.parametrize("factor", [1.5, 2.7, (2, 1), (1, 3.2)])
def test_any_ratio_of_either_side(factor: float | tuple[float, float], noise: Noise) -> None:
    """Factors that are not whole numbers, or differ by side, against interpolation to the rounded sizes."""
    images, latents = noise(1, 3, 32, 48), noise(1, 2, 16, 24, seed=1)
    height, width = factor if isinstance(factor, tuple) else (factor, factor)
    size = (round(16 / height), round(24 / width))
    loss = scale_equivariance_loss(
        images, latents, lambda z: F.interpolate(z.mean(1, keepdim=True), scale_factor=2).repeat(1, 3, 1, 1),
        F.mse_loss, factor=factor, resampling="bilinear",
    )  # fmt: skip
    small = F.interpolate(latents, size, mode="bilinear").mean(1, keepdim=True)
    decoded = F.interpolate(small, scale_factor=2).expand(-1, 3, -1, -1)
    shrunken = F.interpolate(images, (2 * size[0], 2 * size[1]), mode="bilinear")
    torch.testing.assert_close(loss, F.mse_loss(decoded, shrunken))


def test_temporal_factors_of_their_own(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """Space by 2, time by 4 and not at all: the mean of both, each by hand on the identity with a shifted decoder."""

    class Brighter(Identity):
        def decode(self, latents: Tensor) -> Tensor:
            return latents * latents.shape[2]

    clips = noise(1, 3, 9, 8, 8)
    loss = term_of(task_of(Brighter()), batch_of(clips), factors=[2], temporal_factors=[1, 4], each_step="all")
    small = F.avg_pool3d(clips, (1, 2, 2))
    short = torch.stack([small[:, :, 0], small[:, :, 1:5].mean(2), small[:, :, 5:].mean(2)], 2)
    torch.testing.assert_close(loss, (8 * small.abs().mean() + 2 * short.abs().mean()) / 2)


def test_the_perceptual_part_is_left_out_unless_asked_for(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """An objective whose loss tells which part it was asked for."""
    task, batch = task_of(Identity()), batch_of(noise(1, 3, 8, 8))
    output = task.objective(batch)
    asked: list[bool] = []

    def remembering(images: Tensor, reconstruction: Tensor, perceptual: bool = True) -> Tensor:
        asked.append(perceptual)
        return F.l1_loss(images, reconstruction)

    task.objective.reconstruction_loss = remembering  # type: ignore[method-assign]
    for perceptual in (False, True):
        ScaleEquivarianceSpec(perceptual=perceptual).build(BuildContext())(output, task.objective)
    ScaleEquivarianceSpec().build(BuildContext())(output, task.objective)
    assert asked == [False, True, False]


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
        (Identity(), (2, 3, 9, 8), ValueError, "factor 2 does not divide a map of 9x8"),
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
        ScaleEquivarianceSpec().build(BuildContext())(output, task_of(None).objective)
