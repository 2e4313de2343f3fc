"""Averages of weights, against sums over the recorded weights, and files of them."""

import pytest
import torch
from pydantic import ValidationError

from diffusability.core.engine.averages.ema import ExponentialMovingAverage, PowerFunctionAverage, update_all
from diffusability.core.engine.checkpoints.sharded_weights import local_part
from diffusability.core.engine.distributed import Ranks
from diffusability.core.errors import CheckpointError
from diffusability.core.numerics.power_function import gamma_of
from diffusability.core.specs.averaging import EMASpec

ALONE = Ranks(rank=0, size=1, device=torch.device("cpu"))


def recorded_walk(module, averages, steps):
    """Moves the weights at random; the weights before the first step and after each."""
    generator = torch.Generator().manual_seed(0)
    weights = [module.weight.detach().double().clone()]
    for _ in range(steps):
        with torch.no_grad():
            module.weight.add_(torch.randn(module.weight.shape, generator=generator))
        update_all(averages)
        weights.append(module.weight.detach().double().clone())
    return weights


def test_averages_are_the_closed_form_sums():
    """Exponential: d^n w_0 + (1 - d) sum d^(n-k) w_k with d = 2^(-1/half_life), two at once. Power function: each
    weight of step k counts k^(g+1) - (k-1)^(g+1), over n^(g+1)."""
    module = torch.nn.Linear(3, 2)
    half_lives, widths = (5, 0.5), (0.05, 0.1)
    averages = [
        *(ExponentialMovingAverage(module, ALONE, steps) for steps in half_lives),
        *(PowerFunctionAverage(module, ALONE, width) for width in widths),
    ]
    walk = recorded_walk(module, averages, 40)
    for half_life, average in zip(half_lives, averages, strict=False):
        decay = 0.5 ** (1 / half_life)
        expected = decay**40 * walk[0] + (1 - decay) * sum(decay ** (40 - k) * walk[k] for k in range(1, 41))
        torch.testing.assert_close(average.averages["weight"].double(), expected, rtol=1e-5, atol=1e-6)
    for width, average in zip(widths, averages[2:], strict=True):
        power = gamma_of(width) + 1
        expected = sum((k**power - (k - 1) ** power) * walk[k] for k in range(1, 41)) / 40**power
        torch.testing.assert_close(average.averages["weight"].double(), expected, rtol=1e-5, atol=1e-6)


def test_half_life_means_what_it_says():
    """After a jump from 0 to 1, the average is one half at the half-life."""
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    ema = ExponentialMovingAverage(module, ALONE, half_life_steps=7)
    torch.nn.init.ones_(module.weight)
    for _ in range(7):
        update_all([ema])
    torch.testing.assert_close(ema.averages["weight"], torch.full((1, 1), 0.5))


@pytest.mark.parametrize(("half_life", "ratio"), [(1000.0, 0.05), (2.0, 0.1), (5.0, 2.0)])
def test_a_ramp_up_is_that_of_edm(half_life, ratio):
    """Over 60 updates against EDM's rule in samples, of batches of 8: ``min(half_life, seen * ratio)``."""
    module = torch.nn.Linear(3, 2)
    average = ExponentialMovingAverage(module, ALONE, half_life, ratio)
    walk = recorded_walk(module, [average], 60)
    expected, seen = walk[0], 0
    for weights in walk[1:]:
        beta = 0.5 ** (8 / max(min(half_life * 8, seen * ratio), 1e-8))
        expected, seen = beta * expected + (1 - beta) * weights, seen + 8
    torch.testing.assert_close(average.averages["weight"].double(), expected, rtol=1e-5, atol=1e-6)


def test_a_half_life_longer_than_the_training_is_warned_of():
    """The share of the weights from before training against the average of a jump from them; not with a ramp-up."""
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(module.weight)
    ema = ExponentialMovingAverage(module, ALONE, 50)
    torch.nn.init.zeros_(module.weight)
    for _ in range(20):
        update_all([ema])
    (sentence,) = EMASpec(half_life_steps=(50, 20)).warnings(20)
    assert f"half_life_steps 50 is longer than the stage's 20 steps: {ema.averages['weight'].item():.0%} of" in sentence
    assert EMASpec(half_life_steps=50, rampup_ratio=0.05).warnings(20) == []
    with pytest.raises(
        ValidationError, match=r"rampup_ratio 0\.05 shortens half-lives, and there is no half_life_steps"
    ):
        EMASpec(rampup_ratio=0.05, power_function={})


def test_frozen_parameters_are_not_averaged():
    """Only what trains takes memory and files."""
    module = torch.nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    assert set(ExponentialMovingAverage(module, ALONE, 1).averages) == {"weight"}


def test_a_saved_average_goes_on_as_if_never_saved(tmp_path):
    """Out through one object and into another, bit for bit, also after further updates: the number of updates, on
    which a power-function average depends, is saved too."""
    module = torch.nn.Linear(3, 2)
    average = PowerFunctionAverage(module, ALONE, 0.1)
    recorded_walk(module, [average], 5)
    average.write(tmp_path)
    other = PowerFunctionAverage(module, ALONE, 0.1)
    other.read(tmp_path)
    recorded_walk(module, [average, other], 3)
    assert other.num_updates == 8
    assert torch.equal(other.averages["weight"], average.averages["weight"])
    assert not torch.equal(average.averages["weight"], module.weight)


def test_an_average_of_another_model_is_refused(tmp_path):
    """A parameter that the file lacks is named."""
    ExponentialMovingAverage(torch.nn.Linear(3, 2, bias=False), ALONE, 1).write(tmp_path)
    with pytest.raises(CheckpointError, match="no average of 'bias'"):
        ExponentialMovingAverage(torch.nn.Linear(3, 2), ALONE, 1).read(tmp_path)


@pytest.mark.parametrize(("shape", "size"), [((3, 5), 2), ((7,), 4), ((2, 2), 8)])
def test_shards_are_flat_pieces_padded_with_zeros(shape, size):
    """Parts of all ranks, joined and cut to length, against the whole; as DeepSpeed lays ZeRO-3 shards out."""
    parameter = torch.nn.Parameter(torch.randn(shape))
    length = -(-parameter.numel() // size)
    parameter.ds_tensor = torch.empty(length)
    parts = [
        local_part(parameter, parameter.detach(), Ranks(rank=rank, size=size, device=torch.device("cpu")))
        for rank in range(size)
    ]
    joined = torch.cat(parts)
    assert torch.equal(joined[: parameter.numel()].view(shape), parameter)
    assert joined[parameter.numel() :].abs().sum() == 0
