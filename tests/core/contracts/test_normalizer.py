import pytest
import torch

from diffusability.core.contracts.normalizer import ChannelStatistics, LatentNormalizer, NormalizedLatents
from diffusability.core.contracts.posterior import Posterior


def test_statistics_are_those_of_samples():
    """Analytic moments of the posterior against a million drawn samples, and against the law of total variance."""
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
    variance = logvar.double().exp().mean((0, 2, 3)) + mean.double().var((0, 2, 3), correction=0)
    torch.testing.assert_close(normalizer.std, variance.sqrt().float(), rtol=1e-6, atol=0)


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


def test_latents_cannot_be_normalised_twice():
    """The result's type against a second normalisation and against statistics; what is computed from it is a tensor."""
    normalizer = LatentNormalizer(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    latents = torch.randn(3, 2, 4, 4)
    normalized = normalizer.normalize(latents)
    assert isinstance(normalized, NormalizedLatents)
    torch.testing.assert_close(
        torch.Tensor(normalized), (latents - torch.tensor([[[1.0]], [[2.0]]])) / torch.tensor([[[2.0]], [[4.0]]])
    )
    for again in (normalized, normalized.float(), normalized.to("cpu")):
        with pytest.raises(TypeError, match="normalised already"):
            normalizer.normalize(again)
    with pytest.raises(TypeError, match="normalised already"):
        ChannelStatistics(2).update(Posterior(mean=normalized))
    for computed in (0.5 * normalized, normalizer.denormalize(normalized), normalized + torch.randn(3, 2, 4, 4)):
        assert type(computed) is torch.Tensor
    normalizer.normalize(normalizer.denormalize(normalized))


def test_normalising_keeps_the_gradient():
    """The gradient through the marked type against the closed form 1 / std."""
    normalizer = LatentNormalizer(torch.tensor([1.0]), torch.tensor([4.0]))
    latents = torch.randn(2, 1, 3, 3, requires_grad=True)
    normalizer.normalize(latents).sum().backward()
    assert torch.equal(latents.grad, torch.full_like(latents, 0.25))


def test_statistics_of_each_frame_normalise_clips():
    """Statistics of three latent frames on clips of two, by hand; too long a clip and an image are refused."""
    mean, std = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.0, 4.0]])
    normalizer = LatentNormalizer(mean, std)
    clips = torch.full((1, 1, 2, 1, 1), 5.0)
    normalized = normalizer.normalize(clips)
    assert torch.Tensor(normalized).flatten().tolist() == [4.0, 1.5]
    assert torch.equal(normalizer.denormalize(normalized), clips)
    for shape in ((1, 1, 4, 1, 1), (1, 1, 2, 2)):
        with pytest.raises(ValueError, match="up to 3 latent frames"):
            normalizer.normalize(torch.zeros(shape))


def test_statistics_of_all_frames_together_are_those_of_samples():
    """The pooled standard deviation against samples of all frames."""
    generator = torch.Generator().manual_seed(0)
    mean, std = torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([[1.0, 2.0, 0.5]])
    pooled = LatentNormalizer(mean, std).per_channel()
    samples = mean.T + std.T * torch.randn(3, 200_000, generator=generator)
    torch.testing.assert_close(pooled.mean, samples.mean()[None], rtol=0.01, atol=0.01)
    torch.testing.assert_close(pooled.std, samples.std()[None], rtol=0.01, atol=0.01)


def test_a_normaliser_takes_over_statistics_of_another_shape():
    """Its state against the other's."""
    normalizer = LatentNormalizer.identity(1)
    normalizer.take_over(LatentNormalizer(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])))
    assert normalizer.state_dict()["mean"].tolist() == [[1.0, 2.0]]
    assert normalizer.state_dict()["std"].tolist() == [[3.0, 4.0]]


def test_statistics_of_each_place():
    """``(z - mean) / std`` written out, for images and clips; latents of another size, and bad frames, are refused."""
    generator = torch.Generator().manual_seed(3)
    for shape in ((2, 3, 4), (2, 5, 3, 4)):
        mean, std = (torch.rand(shape, generator=generator) + 0.5 for _ in range(2))
        latents = torch.randn(3, *shape, generator=generator)
        normalizer = LatentNormalizer(mean, std)
        normalized = normalizer.normalize(latents)
        torch.testing.assert_close(torch.Tensor(normalized), torch.stack([(latent - mean) / std for latent in latents]))
        torch.testing.assert_close(normalizer.denormalize(normalized), latents)
        with pytest.raises(ValueError, match="each place of latents of shape"):
            normalizer.normalize(latents[..., :-1])


def test_the_moments_of_a_channel_are_those_of_all_its_places():
    """Means and variances of places against moments of the mixture, by samples of it in numpy's words."""
    mean, std = torch.tensor([[[0.0, 2.0], [4.0, -2.0]]]), torch.tensor([[[1.0, 0.5], [2.0, 1.0]]])
    coarse = LatentNormalizer(mean, std).per_channel()
    assert coarse.mean.item() == 1.0
    second = (mean.square() + std.square()).mean().item()
    assert coarse.std.item() == pytest.approx((second - 1.0) ** 0.5)
