import math
from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from diffusability.core.contracts.linear_betas import LinearBetas
from diffusability.core.contracts.objective import Batch
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import ObjectiveSpec
from diffusability.models.objectives.ddpm import DDPM
from diffusability.models.objectives.ddpm_variance import learned_log_variance, variational_bound
from diffusability.models.specs.denoisers.dit import DIT_SIZES, DiTSize
from diffusability.models.specs.objectives.ddpm import DDPMSpec


@pytest.fixture(autouse=True)
def tiny_dit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes Ti a two-layer transformer, so that these tests are fast."""
    monkeypatch.setitem(DIT_SIZES, "Ti", DiTSize(2, 32, 2))


def objective_of(shape: tuple[int, ...] = (3, 4, 4), learn_sigma: bool = True, **settings: object) -> DDPM:
    torch.manual_seed(0)
    spec = DDPMSpec(denoiser={"kind": "dit", "size": "Ti/2", "learn_sigma": learn_sigma}, **settings)
    objective = spec.build(BuildContext(latent_shape=shape, num_classes=5))
    assert isinstance(objective, DDPM)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return objective.eval()


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 2, 4, 4)])
def test_the_losses_equal_plain_torch(
    shape: tuple[int, ...], batch_of: Callable[..., Batch], noise: Callable[..., Tensor]
) -> None:
    """Time, prediction, noise error and the weighted bound against ``z_k`` written out; images and clips."""
    objective = objective_of(shape)
    batch = batch_of(noise(24, *shape), torch.arange(24) % 5)
    output = objective(batch)
    shares = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).float()
    k = batch.randomness.integers("time", 1000)
    eps = batch.randomness.normal("noise", shape)
    share = shares[k].view(-1, *[1] * len(shape))
    z = share.sqrt() * batch.data + (1 - share).sqrt() * eps
    predicted, fraction = objective.denoiser(z, k / 1000, batch.labels).chunk(2, dim=1)
    torch.testing.assert_close(output.time, k / 1000)
    torch.testing.assert_close(output.prediction, predicted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.losses["noise"], (predicted - eps).square().mean(), rtol=1e-4, atol=1e-5)
    bound = variational_bound(
        objective.schedule, k, predicted, eps, learned_log_variance(objective.schedule, k, fraction)
    )
    torch.testing.assert_close(output.losses["variance"], bound.mean(), rtol=1e-3, atol=1e-4)  # 0.001 * 1000 = 1


def test_the_bound_equals_the_divergence_of_posteriors(noise: Callable[..., Tensor]) -> None:
    """The bound from the error of the noise against divergences of Gaussians (torch.distributions), whose means are
    those of ``q(z_{k-1} | z_k, z_0)`` for the data and for its estimate; at k = 0 against the density of the data.
    """
    schedule = LinearBetas()
    k = torch.tensor([0, 1, 2, 10, 100, 500, 998, 999])
    data, eps, wrong, fraction = (noise(8, 3, 2, 2, seed=seed, dtype=torch.float64) for seed in range(4))
    predicted = eps + 0.3 * wrong
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    shares = torch.cumprod(1 - betas, 0)
    previous = torch.cat([torch.ones(1, dtype=torch.float64), shares[:-1]])
    small = betas * (1 - previous) / (1 - shares)
    small[0] = small[1]

    def at(table: Tensor) -> Tensor:
        return table[k].view(-1, 1, 1, 1)

    z = at(shares).sqrt() * data + (1 - at(shares)).sqrt() * eps

    def posterior_mean(start: Tensor) -> Tensor:
        return (
            at(betas * previous.sqrt() / (1 - shares)) * start
            + at((1 - previous) * (1 - betas).sqrt() / (1 - shares)) * z
        )

    estimate = (z - (1 - at(shares)).sqrt() * predicted) / at(shares).sqrt()
    share = (fraction + 1) / 2
    log_variance = share * at(betas).log() + (1 - share) * at(small).log()
    model = Normal(posterior_mean(estimate), (log_variance / 2).exp())
    true = Normal(posterior_mean(data), at(small).sqrt())
    terms = kl_divergence(true, model).flatten(1).mean(1)
    terms[0] = -model.log_prob(data)[0].mean()
    bound = variational_bound(schedule, k, predicted, eps, learned_log_variance(schedule, k, fraction))
    torch.testing.assert_close(bound, terms / math.log(2))


def test_the_bound_teaches_the_variance_alone(batch_of: Callable[..., Batch], noise: Callable[..., Tensor]) -> None:
    """Gradients of the loss ``variance`` at the last layer: none for the noise's outputs, some for the variance's."""
    objective = objective_of()
    output = objective(batch_of(noise(8, 3, 4, 4), torch.zeros(8, dtype=torch.long)))
    output.losses["variance"].backward()
    gradient = objective.denoiser.final.linear.weight.grad
    assert gradient is not None
    silent = gradient.abs().sum(1) == 0
    assert int(silent.sum()) == len(silent) // 2


def test_without_learned_variance_there_is_one_loss(
    batch_of: Callable[..., Batch], noise: Callable[..., Tensor]
) -> None:
    """Names of the losses; the denoiser's output has the latents' channels."""
    output = objective_of(learn_sigma=False)(batch_of(noise(4, 3, 4, 4), torch.zeros(4, dtype=torch.long)))
    assert list(output.losses) == ["noise"]
    assert output.prediction.shape == (4, 3, 4, 4)
    assert all(getattr(output, name) is not None for name in DDPMSpec.provides)


def test_betas_that_fall_are_refused() -> None:
    """The message names both."""
    with pytest.raises(ValidationError, match=r"beta_start 0\.03 exceeds beta_end 0\.02"):
        ObjectiveSpec.model_validate({"kind": "ddpm", "denoiser": {"kind": "dit"}, "beta_start": 0.03})
