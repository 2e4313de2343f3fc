"""Moments and correlations of latent channels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.specs.spectra import ChannelStatisticsSpec
from diffusability.eval.spectra.channel_moments import ChannelMoments

Evaluate = Callable[..., dict[str, EvalResult]]
Noise = Callable[..., Tensor]


@pytest.fixture
def latents(noise: Noise) -> Tensor:
    """Ten latents of four channels: Gaussian, skewed, correlated with the first, and far from 0."""
    values = noise(10, 4, 6, 5)
    return torch.stack([values[:, 0], values[:, 1].exp(), values[:, 2] + values[:, 0], 1000 + values[:, 3]], dim=1)


def test_curves_are_numpys_and_scipys(latents: Tensor, evaluate: Evaluate) -> None:
    """Mean, standard deviation and kurtosis of each channel over all latents and places at once, fed in batches."""
    results = evaluate(ChannelStatisticsSpec(), [3, 1, 6], latents=latents)
    columns = latents.double().transpose(0, 1).flatten(1).numpy()
    expected = {
        "channel_mean_curve": columns.mean(1),
        "channel_std_curve": columns.std(1),
        "channel_kurtosis_curve": scipy.stats.kurtosis(columns, axis=1),
    }
    for metric, values in expected.items():
        curve = results[metric].curve
        assert curve is not None
        assert curve.x == [0, 1, 2, 3]
        np.testing.assert_allclose(curve.y, values, rtol=1e-6, atol=1e-8)
    assert results["channel_std_ratio"].value == pytest.approx(columns.std(1).max() / columns.std(1).min())
    assert results["channel_kurtosis"].value == pytest.approx(expected["channel_kurtosis_curve"].mean())
    pairs = np.abs(np.corrcoef(columns))[~np.eye(4, dtype=bool)]
    assert results["channel_correlation"].value == pytest.approx(pairs.mean(), rel=1e-6)
    assert results["constant_channels"].value == 0


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=8), ranks=st.integers(1, 4), seed=st.integers(0, 99))
def test_order_batches_and_ranks_do_not_matter(sizes: list[int], ranks: int, seed: int) -> None:
    """Any cut into batches, shuffled, over any number of accumulators that are merged, against one batch."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(sum(sizes), 3, 2, 2, generator=generator).exp() + torch.tensor([0.0, 5.0, -50.0]).view(3, 1, 1)
    whole = ChannelMoments()
    whole.update(values)
    batches = values[torch.randperm(len(values), generator=generator)].split(sizes)
    merged = ChannelMoments()
    for rank in range(ranks):
        part = ChannelMoments()
        for batch in batches[rank::ranks]:
            part.update(batch)
        merged.merge(part.on_cpu())
    for actual, expected in (
        (merged.gaussian.mean, whole.gaussian.mean),
        (merged.variance(), whole.variance()),
        (merged.excess_kurtosis(), whole.excess_kurtosis()),
        (merged.correlation(), whole.correlation()),
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-8)


def test_clips_count_every_frame(latents: Tensor, evaluate: Evaluate) -> None:
    """Latents of clips against the same numbers as latents of images."""
    clips = latents.unflatten(0, (5, 2)).transpose(1, 2)
    of_clips = evaluate(ChannelStatisticsSpec(), latents=clips)
    of_images = evaluate(ChannelStatisticsSpec(), latents=latents)
    for metric in ("channel_std_ratio", "channel_kurtosis", "channel_correlation"):
        assert of_clips[metric].value == pytest.approx(of_images[metric].value, rel=1e-9)
    assert of_clips["channel_kurtosis"].num_samples == 5


def test_constant_channels_are_counted_and_left_out(latents: Tensor, evaluate: Evaluate) -> None:
    """One constant channel of four, and nothing but constants."""
    latents = latents.clone()
    latents[:, 1] = 7.0
    results = evaluate(ChannelStatisticsSpec(), latents=latents)
    assert results["constant_channels"].value == 1
    curve = results["channel_kurtosis_curve"].curve
    assert curve is not None
    assert curve.x == [0, 2, 3]
    assert np.isfinite([results[name].value for name in ("channel_std_ratio", "channel_correlation")]).all()
    nothing = evaluate(ChannelStatisticsSpec(), latents=torch.ones(3, 2, 4, 4))
    assert nothing["constant_channels"].value == 2
    assert "channel_kurtosis" not in nothing


def test_other_channels_and_nothing_are_errors(noise: Noise) -> None:
    """A batch of another number of channels; computing before any update."""
    evaluator = ChannelStatisticsSpec().build(BuildContext())
    with pytest.raises(DataError, match="no latents were evaluated"):
        evaluator.compute()
    evaluator.update(EvaluationBatch(indices=[0], latents=noise(1, 3, 4, 4)))
    with pytest.raises(DataError, match="latents of 4 channels follow latents of 3"):
        evaluator.update(EvaluationBatch(indices=[1], latents=noise(1, 4, 4, 4)))


def test_the_figure_is_drawn(latents: Tensor, tmp_path: Path) -> None:
    """PNG and SVG, of several channels, of one, and with a constant one."""
    for name, values in (("many", latents), ("one", latents[:, :1]), ("constant", 0 * latents)):
        evaluator = ChannelStatisticsSpec().build(BuildContext())
        evaluator.update(EvaluationBatch(indices=range(10), latents=values))
        paths = evaluator.draw(tmp_path / name)
        assert [path.name for path in paths] == ["channel-statistics.png", "channel-statistics.svg"]
        assert all(path.stat().st_size > 1000 for path in paths)
