"""The penalties on variances, against closed forms and numeric integration."""

import math
from collections.abc import Callable

import pytest
import scipy.integrate
import torch
from torch import Tensor
from toy_autoencoders import Still

from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import TrainingError
from diffusability.core.specs.build_context import BuildContext
from diffusability.regularizers.specs.variance_expansion import VarianceExpansionSpec
from diffusability.regularizers.terms.variance_expansion import variance_expansion_loss
from diffusability.regularizers.terms.velocity_variance import trace_of_root, velocity_variance

Noise = Callable[..., Tensor]


def test_variance_expansion_is_the_mean_reciprocal(noise: Noise) -> None:
    """Value by hand and its gradient -s^2 / (N (s^2 + d)^2) with respect to the log variance."""
    logvar = noise(2, 3, 4, 4).requires_grad_()
    loss = variance_expansion_loss(logvar, 0.5)
    torch.testing.assert_close(loss, (1 / (logvar.exp() + 0.5)).mean())
    loss.backward()
    variance = logvar.detach().exp()
    torch.testing.assert_close(logvar.grad, -variance / (variance + 0.5) ** 2 / 96)
    assert torch.autograd.gradcheck(lambda v: variance_expansion_loss(v, 0.5), (noise(1, 2, 2, 2).requires_grad_(),))


def test_a_deterministic_encoder_is_an_error(
    batch_of: Callable[..., Batch], task_of: Callable[..., TrainTask], noise: Noise
) -> None:
    """A task with an encoder that has no variance."""
    spec = VarianceExpansionSpec()
    task = task_of(Still(), (spec,), {spec.kind: spec.build(BuildContext())})
    with pytest.raises(TrainingError, match="'variance-expansion' needs a posterior with a variance"):
        task(batch_of(noise(2, 3, 4, 4)))


@pytest.mark.parametrize("eigenvalue", [0.05, 1.0, 7.0])
def test_the_integral_over_time_is_half_pi_times_the_root(eigenvalue: float) -> None:
    """scipy's quadrature of ``l / ((1 - t)^2 + t^2 l)``, on which the closed form rests."""
    value, _ = scipy.integrate.quad(lambda t: eigenvalue / ((1 - t) ** 2 + t**2 * eigenvalue), 0, 1)
    assert value == pytest.approx(math.pi / 2 * math.sqrt(eigenvalue), rel=1.5e-8)  # what quad promises


def test_white_latents_have_the_largest_value(noise: Noise) -> None:
    """Many white samples against pi/2, whatever their scale; smooth ones below it."""
    white = noise(600, 2, 4, 4)
    assert velocity_variance(white, 4).item() == pytest.approx(math.pi / 2, rel=0.01)
    torch.testing.assert_close(velocity_variance(7 * white, 4), velocity_variance(white, 4))
    assert velocity_variance(white.cumsum(-1), 4) < 0.95 * velocity_variance(white, 4)


def test_it_is_the_mean_root_of_the_eigenvalues_of_a_kronecker_product(noise: Noise) -> None:
    """Latents A z B with known covariances of channels and places: eigenvalues of the product by numpy's kron."""
    channels, places = noise(3, 3), noise(4, 4, seed=1)
    white = noise(20000, 3, 4, seed=2)
    latents = torch.einsum("cd,ndp,pq->ncq", channels, white, places).reshape(-1, 3, 2, 2)
    covariance = torch.kron(channels @ channels.T, places.T @ places)
    eigenvalues = torch.linalg.eigvalsh(covariance)
    expected = math.pi / 2 * (eigenvalues / eigenvalues.mean()).clamp_min(0).sqrt().mean()
    assert velocity_variance(latents, 2).item() == pytest.approx(expected.item(), rel=0.02)


def test_one_direction_of_variance_is_the_smallest(noise: Noise) -> None:
    """Latents that are multiples of one pattern: ``(pi/2) / sqrt(N)`` for N dimensions."""
    latents = noise(500, 1, 1, 1) * torch.ones(1, 2, 4, 4, dtype=torch.float64)
    assert velocity_variance(latents, 4).item() == pytest.approx(math.pi / 2 / math.sqrt(32), rel=0.05)


def test_gradients(noise: Noise) -> None:
    """Autograd against finite differences, of the penalty on images and clips and of the root's trace."""
    for shape in ((6, 2, 4, 4), (3, 2, 2, 4, 4)):
        assert torch.autograd.gradcheck(lambda z: velocity_variance(z, 2), (noise(*shape).requires_grad_(),))
    matrix = noise(4, 4)
    symmetric: Callable[[Tensor], Tensor] = lambda m: trace_of_root(m @ m.T)  # noqa: E731
    assert torch.autograd.gradcheck(symmetric, (matrix.requires_grad_(),))
