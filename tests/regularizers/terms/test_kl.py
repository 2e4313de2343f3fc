import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toy_autoencoders import LinearConvolutions, Still

from diffusability.core.contracts.objective import Batch, StepOutput
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import TrainingError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.specs.build_context import BuildContext
from diffusability.regularizers.specs.kl import KLSpec
from diffusability.regularizers.terms.kl import kl_loss


def output_of(mean: Tensor, logvar: Tensor | None, step: int = 0) -> StepOutput:
    randomness = BatchRandomness(seed=0, step=step, positions=range(len(mean)))
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
    term = KLSpec().build(BuildContext())(output_of(mean, logvar), task_of(None).objective)
    posterior = torch.distributions.Normal(mean, torch.exp(logvar / 2))
    prior = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(term, torch.distributions.kl_divergence(posterior, prior).mean())


def test_its_gradient_is_the_closed_form(noise: Callable[..., Tensor], task_of: Callable[..., TrainTask]) -> None:
    """mu / N for the mean, (s^2 - 1) / 2N for the log variance, N being the number of dimensions."""
    mean, logvar = noise(2, 4, 3, 5).requires_grad_(), noise(2, 4, 3, 5, seed=1).requires_grad_()
    KLSpec().build(BuildContext())(output_of(mean, logvar), task_of(None).objective).backward()
    torch.testing.assert_close(mean.grad, mean.detach() / 120, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(logvar.grad, (logvar.detach().exp() - 1) / 240, rtol=1e-6, atol=1e-9)


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
    assert kl(output_of(zero, zero), task_of(None).objective).item() == 0
    assert kl(output_of(zero + 0.1, zero), task_of(None).objective).item() == pytest.approx(0.005, rel=1e-4)


def test_a_deterministic_encoder_is_an_error(
    batch_of: Callable[..., Batch], task_of: Callable[..., TrainTask], noise: Callable[..., Tensor]
) -> None:
    """The real path: a task with an encoder that has no variance."""
    spec = KLSpec()
    task = task_of(Still(), (spec,), {"kl": spec.build(BuildContext())})
    with pytest.raises(TrainingError, match="'kl' needs a posterior with a variance"):
        task(batch_of(noise(2, 3, 4, 4).float()))


def test_free_bits_spare_the_channels_below_them(noise: Callable[..., Tensor]) -> None:
    """Two channels of known divergence, one below the free bits: value and gradients by hand."""
    mean = torch.stack([torch.full((2, 3, 3), 0.2), torch.full((2, 3, 3), 2.0)], 1).requires_grad_()
    posterior = Posterior(mean=mean, logvar=torch.zeros_like(mean))
    loss = kl_loss(posterior, free_bits=0.5)
    assert loss.item() == pytest.approx((0.5 + 2.0) / 2)  # mu^2 / 2 is 0.02 and 2
    loss.backward()
    assert mean.grad is not None
    assert mean.grad[:, 0].abs().max() == 0
    torch.testing.assert_close(mean.grad[:, 1], torch.full((2, 3, 3), 2.0 / 36))
    assert kl_loss(posterior).item() == pytest.approx((0.02 + 2.0) / 2)


def test_the_weight_follows_a_target(task_of: Callable[..., TrainTask]) -> None:
    """Against the update written out: grows by at most e^speed a step above the target, shrinks below it."""
    kl = KLSpec(target=0.5, adaptation=0.1).build(BuildContext())
    zero = torch.zeros(2, 3, 4, 4)
    factors = []
    for step, mean in enumerate((2.0, 2.0, 0.8, 0.8, 0.8)):  # divergences of 2 and 0.32
        kl(output_of(zero + mean, zero, step), task_of(None).objective)
        factors.append(kl.factor().item())
    grown, shrunk = math.exp(0.1), math.exp(0.1 * (0.32 / 0.5 - 1))
    expected = [1, grown, grown**2, grown**2 * shrunk, grown**2 * shrunk**2]
    assert factors == pytest.approx(expected, rel=1e-5)


def test_micro_batches_of_a_step_count_as_one(task_of: Callable[..., TrainTask]) -> None:
    """Two micro batches against one batch of both, over three steps."""
    zero = torch.zeros(2, 3, 4, 4)
    whole, parts = (KLSpec(target=0.5).build(BuildContext()) for _ in range(2))
    for step in range(3):
        whole(output_of(torch.cat([zero + 2, zero + 1]), torch.cat([zero, zero]), step), task_of(None).objective)
        for mean in (2, 1):
            parts(output_of(zero + mean, zero, step), task_of(None).objective)
    assert whole.factor().item() == parts.factor().item() != 1


def test_an_adapted_weight_is_part_of_the_state(task_of: Callable[..., TrainTask]) -> None:
    """A copy that loads the state after two steps goes on as the original does."""
    first, second = (KLSpec(target=0.5).build(BuildContext()) for _ in range(2))
    zero = torch.zeros(2, 3, 4, 4)
    for step in range(2):
        first(output_of(zero + 2, zero, step), task_of(None).objective)
    second.load_state_dict(first.state_dict())
    for kl in (first, second):
        kl(output_of(zero + 2, zero, 2), task_of(None).objective)
    assert first.factor().item() == second.factor().item() == pytest.approx(math.exp(0.02))


def test_the_engine_applies_the_factor(
    batch_of: Callable[..., Batch], task_of: Callable[..., TrainTask], noise: Callable[..., Tensor]
) -> None:
    """A task with an adapted KL: the total against term, weight and factor, which the log gets too."""
    spec = KLSpec(weight=0.5, target=1e-9, adaptation=1.0)
    task = task_of(LinearConvolutions(), (spec,), {"kl": spec.build(BuildContext())})
    outputs = [task(batch_of(noise(2, 3, 8, 8), step)) for step in range(2)]
    assert [output.monitors["kl_factor"].item() for output in outputs] == pytest.approx([1.0, math.e])
    terms = outputs[1].terms
    expected = terms["l1"].double() + 0.5 * math.e * terms["kl"].double()
    torch.testing.assert_close(outputs[1].loss.detach().double(), expected, rtol=1e-5, atol=0)
