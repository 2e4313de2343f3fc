from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.specs.reconstruction import KLPerDimSpec

Evaluate = Callable[..., dict[str, EvalResult]]


@pytest.mark.parametrize("shape", [(5, 4, 3, 6), (5, 4, 2, 3, 6)])
def test_it_is_the_mean_divergence_of_torch_distributions(
    shape: tuple[int, ...], noise: Callable[..., Tensor], evaluate: Evaluate
) -> None:
    """Images' and clips' posteriors, in one batch and in uneven ones, against torch.distributions."""
    mean, logvar = noise(*shape), noise(*shape, seed=1)
    normal = torch.distributions.Normal(mean.double(), torch.exp(logvar.double() / 2))
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean().item()
    for sizes in (None, [1, 4], [2, 1, 2]):
        result = evaluate(KLPerDimSpec(), sizes, posterior=Posterior(mean=mean, logvar=logvar))["kl_per_dim"]
        assert result.value == pytest.approx(expected, rel=1e-6)
        assert (result.unit, result.num_samples, result.higher_is_better) == ("nats", 5, None)


def test_it_is_zero_at_the_prior(evaluate: Evaluate) -> None:
    """Mean 0 and variance 1 against exactly 0."""
    zero = torch.zeros(2, 4, 8, 8)
    assert evaluate(KLPerDimSpec(), posterior=Posterior(mean=zero, logvar=zero))["kl_per_dim"].value == 0


def test_a_deterministic_encoder_is_an_error(evaluate: Evaluate) -> None:
    """A posterior without variance."""
    with pytest.raises(DataError, match="'kl-per-dim' needs a posterior with a variance"):
        evaluate(KLPerDimSpec(), posterior=Posterior(mean=torch.zeros(2, 4, 8, 8)))


def test_no_images_is_an_error() -> None:
    """Computing before any update."""
    with pytest.raises(DataError, match="no images were evaluated"):
        KLPerDimSpec().build(BuildContext()).compute()
