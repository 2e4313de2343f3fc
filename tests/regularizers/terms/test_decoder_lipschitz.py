from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from toy_autoencoders import Identity, LinearConvolutions

from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.task import TrainTask
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.engine import EngineSpec
from diffusability.regularizers.specs.decoder_lipschitz import DecoderLipschitzSpec
from diffusability.regularizers.terms.decoder_lipschitz import (
    difference_penalty,
    gradient_penalty,
    sum_difference_penalty,
    sum_gradient_penalty,
)

Noise = Callable[..., Tensor]


def test_both_estimates_are_the_frobenius_norm_of_a_linear_decoder(noise: Noise) -> None:
    """A matrix as decoder: averages over many directions against ``|A|_F^2 / P``."""
    matrix = noise(12, 8)
    decode: Callable[[Tensor], Tensor] = lambda z: (z.flatten(1) @ matrix.T).view(-1, 3, 2, 2)  # noqa: E731
    latents = noise(4000, 2, 2, 2, seed=1).requires_grad_()
    reconstruction = decode(latents)
    expected = matrix.square().sum() / 12
    gradient = gradient_penalty(latents, reconstruction, noise(4000, 3, 2, 2, seed=2))
    difference = difference_penalty(latents, reconstruction, decode, noise(4000, 2, 2, 2, seed=3), 0.1)
    assert gradient.item() == pytest.approx(expected.item(), rel=0.05)
    assert difference.item() == pytest.approx(expected.item(), rel=0.05)


def test_the_sum_is_the_squared_gradient_of_the_sum_of_pixels(noise: Noise) -> None:
    """A matrix as decoder, whose columns' sums are the gradient: exactly, and by differences on the average."""
    matrix = noise(12, 8)
    decode: Callable[[Tensor], Tensor] = lambda z: (z.flatten(1) @ matrix.T).view(-1, 3, 2, 2)  # noqa: E731
    latents = noise(8000, 2, 2, 2, seed=1).requires_grad_()
    reconstruction = decode(latents)
    expected = matrix.sum(0).square().mean().item()
    assert sum_gradient_penalty(latents, reconstruction).item() == pytest.approx(expected, rel=1e-6)
    difference = sum_difference_penalty(latents, reconstruction, decode, noise(8000, 2, 2, 2, seed=3), 0.1)
    assert difference.item() == pytest.approx(expected, rel=0.06)


def test_slopes_cancel_in_the_sum_and_not_in_the_norm(noise: Noise) -> None:
    """Two pixels that move against each other: 0, and 1."""
    latents = noise(3, 1, 1, 1).requires_grad_()
    opposed = torch.cat([latents, -latents], 3)
    assert sum_gradient_penalty(latents, opposed).item() == 0
    directions = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(3, 1, 1, 2) * 2**0.5
    assert gradient_penalty(latents, opposed, directions).item() == pytest.approx(1)


def test_a_decoder_that_ignores_its_latents_costs_nothing(noise: Noise) -> None:
    """A constant decoder against exactly 0."""
    latents = noise(2, 2, 4, 4)
    constant = torch.ones(2, 3, 4, 4, dtype=torch.float64)
    assert difference_penalty(latents, constant, lambda z: constant, noise(2, 2, 4, 4, seed=1), 0.1).item() == 0


def test_gradients(noise: Noise) -> None:
    """Autograd against finite differences for a curved decoder, in its weight and in the latents."""
    weight, latents = noise(3, 2).requires_grad_(), noise(1, 2, 2, 2, seed=1).requires_grad_()
    out, into = noise(1, 3, 2, 2, seed=2), noise(1, 2, 2, 2, seed=3)

    def decode(z: Tensor, w: Tensor) -> Tensor:
        return torch.einsum("oc,bchw->bohw", w, z).tanh()

    def gradient(z: Tensor, w: Tensor) -> Tensor:
        return gradient_penalty(z, decode(z, w), out).double()

    def difference(z: Tensor, w: Tensor) -> Tensor:
        return difference_penalty(z, decode(z, w), lambda moved: decode(moved, w), into, 0.3).double()

    for loss in (gradient, difference):  # the losses are float32 at their end
        assert torch.autograd.gradcheck(loss, (latents, weight), eps=1e-3, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("estimator", ["frobenius", "sum"])
@pytest.mark.parametrize("estimate", ["difference", "gradient"])
def test_it_trains_the_decoder(
    estimate: str, estimator: str, task_of: Callable[..., TrainTask], batch_of: Callable[..., Batch], noise: Noise
) -> None:
    """In a real task: the identity has slope 1; a convolution's weights get gradients."""
    spec = DecoderLipschitzSpec.model_validate(
        {"kind": "decoder-lipschitz", "estimate": estimate, "estimator": estimator}
    )
    regularizer = spec.build(BuildContext())
    images = noise(64, 3, 8, 8).requires_grad_()  # latents of the identity, which the gradient is taken at
    task = task_of(Identity())
    output = task.objective(batch_of(images * 1.0))
    tolerance = (
        0.6 if (estimate, estimator) == ("difference", "sum") else 0.05
    )  # one direction, squared, for 64 samples
    assert regularizer(output, task.objective).item() == pytest.approx(1, rel=tolerance)
    task = task_of(LinearConvolutions())
    regularizer(task.objective(batch_of(noise(2, 3, 8, 8))), task.objective).backward()
    grad = task.objective.autoencoder.decoder.weight.grad
    assert grad is not None
    assert grad.abs().sum() > 0


def test_second_derivatives_are_refused_at_zero_3() -> None:
    """The exact estimate at stage 3, with the way out; the other one everywhere."""
    with pytest.raises(ValueError, match=r"expected estimate 'difference' or engine\.zero_stage 0 to 2"):
        DecoderLipschitzSpec(estimate="gradient").check_engine(EngineSpec(zero_stage=3))
    DecoderLipschitzSpec(estimate="gradient").check_engine(EngineSpec(zero_stage=2))
    DecoderLipschitzSpec().check_engine(EngineSpec(zero_stage=3))
