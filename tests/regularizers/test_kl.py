from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusability.core.autoencoder import Autoencoder
from diffusability.core.build import AutoencoderInfo, BuildContext
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import TrainingError
from diffusability.core.objective import Batch, StepOutput
from diffusability.core.posterior import Posterior
from diffusability.core.randomness import BatchRandomness
from diffusability.regularizers.specs import KLSpec


class Still(Autoencoder):
    """Has an encoder without variance."""

    info = AutoencoderInfo(latent_channels=3, spatial_factor=1)

    def encode(self, images: Tensor) -> Posterior:
        return Posterior(mean=images)

    def decode(self, latents: Tensor) -> Tensor:
        return latents


def output_of(mean: Tensor, logvar: Tensor | None) -> StepOutput:
    randomness = BatchRandomness(seed=0, step=0, positions=range(len(mean)))
    return StepOutput(
        losses={},
        batch=Batch(data=mean, labels=None, randomness=randomness),
        posterior=Posterior(mean=mean, logvar=logvar),
    )


@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (2, 4, 3, 2, 2)])
def test_it_is_the_mean_divergence_of_torch_distributions(
    shape: tuple[int, ...], noise: Callable[..., Tensor], task_of: Callable[..., TrainTask]
) -> None:
    """Images' and clips' latents against torch.distributions."""
    mean, logvar = noise(*shape).float(), noise(*shape, seed=1).float()
    term = KLSpec().build(BuildContext())(output_of(mean, logvar), task_of(None))
    posterior = torch.distributions.Normal(mean, torch.exp(logvar / 2))
    prior = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(term, torch.distributions.kl_divergence(posterior, prior).mean())


def test_its_gradient_is_the_closed_form(noise: Callable[..., Tensor], task_of: Callable[..., TrainTask]) -> None:
    """mu / N for the mean, (s^2 - 1) / 2N for the log variance, N being the number of dimensions."""
    mean, logvar = noise(2, 4, 3, 5).requires_grad_(), noise(2, 4, 3, 5, seed=1).requires_grad_()
    KLSpec().build(BuildContext())(output_of(mean, logvar), task_of(None)).backward()
    torch.testing.assert_close(mean.grad, mean.detach() / 120, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(logvar.grad, (logvar.detach().exp() - 1) / 240, rtol=1e-6, atol=1e-9)


@settings(deadline=None)
@given(mean=st.floats(-4, 4), logvar=st.floats(-8, 4))
def test_it_is_not_negative(mean: float, logvar: float) -> None:
    """The sign for single Gaussians, against 0."""
    output = output_of(torch.full((1, 1, 1, 1), mean), torch.full((1, 1, 1, 1), logvar))
    assert output.posterior is not None
    assert output.posterior.kl_per_dim().item() >= -1e-6


def test_it_is_zero_at_the_prior(task_of: Callable[..., TrainTask]) -> None:
    """Mean 0 and variance 1 against exactly 0; a little off it is more."""
    kl = KLSpec().build(BuildContext())
    zero = torch.zeros(2, 3, 4, 4)
    assert kl(output_of(zero, zero), task_of(None)).item() == 0
    assert kl(output_of(zero + 0.1, zero), task_of(None)).item() == pytest.approx(0.005, rel=1e-4)


def test_a_deterministic_encoder_is_an_error(
    batch_of: Callable[..., Batch], task_of: Callable[..., TrainTask], noise: Callable[..., Tensor]
) -> None:
    """The real path: a task with an encoder that has no variance."""
    spec = KLSpec()
    task = task_of(Still(), (spec,), {"kl": spec.build(BuildContext())})
    with pytest.raises(TrainingError, match="'kl' needs a posterior with a variance"):
        task(batch_of(noise(2, 3, 4, 4).float()))
