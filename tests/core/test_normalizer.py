import pytest
import torch

from diffusability.core.normalizer import ChannelStatistics, LatentNormalizer
from diffusability.core.posterior import Posterior


def test_statistics_are_those_of_samples():
    """Analytic moments of the posterior against a million drawn samples."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(64, 2, 4, 4, generator=generator) * torch.tensor([1.0, 3.0]).view(1, 2, 1, 1) + 2
    logvar = torch.randn(64, 2, 4, 4, generator=generator) - 1
    posterior = Posterior(mean=mean, logvar=logvar)
    statistics = ChannelStatistics(2)
    for part in range(4):
        statistics.update(Posterior(mean=mean[part::4], logvar=logvar[part::4]))
    normalizer = statistics.normalizer()
    draws = torch.stack([posterior.sample(torch.randn(mean.shape, generator=generator)) for _ in range(500)])
    torch.testing.assert_close(normalizer.mean, draws.mean((0, 1, 3, 4)), rtol=0.01, atol=0.01)
    torch.testing.assert_close(normalizer.std, draws.std((0, 1, 3, 4)), rtol=0.01, atol=0.01)


def test_merged_parts_are_the_whole_and_survive_json():
    """Two shards' statistics against one pass."""
    data = torch.randn(10, 3, 2, 2)
    whole, first, second = ChannelStatistics(3), ChannelStatistics(3), ChannelStatistics(3)
    whole.update(Posterior(mean=data))
    first.update(Posterior(mean=data[:4]))
    second.update(Posterior(mean=data[4:]))
    first.merge(ChannelStatistics.from_state(second.state()))
    torch.testing.assert_close(first.normalizer().std, whole.normalizer().std)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 3, 5, 4, 4)])
def test_normalising_and_back_is_the_identity(shape):
    """For images and video."""
    normalizer = LatentNormalizer(torch.tensor([1.0, -2.0, 0.0]), torch.tensor([0.5, 2.0, 1.0]))
    latents = torch.randn(shape)
    torch.testing.assert_close(normalizer.denormalize(normalizer.normalize(latents)), latents)


def test_a_constant_channel_is_only_shifted_and_bad_scales_are_refused():
    """No division by zero; a zero std given by hand is an error."""
    statistics = ChannelStatistics(1)
    statistics.update(Posterior(mean=torch.full((2, 1, 2, 2), 3.0)))
    normalized = statistics.normalizer().normalize(torch.full((1, 1, 1, 1), 3.0))
    assert normalized.item() == 0
    with pytest.raises(ValueError, match="positive"):
        LatentNormalizer(torch.zeros(1), torch.zeros(1))
