import pytest
import torch

from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.ema import ExponentialMovingAverage
from diffusability.core.engine.sharded_weights import local_part


def test_average_is_the_closed_form_sum():
    """a_n = d^n w_0 + (1 - d) sum d^(n-k) w_k with d = 2^(-1/half_life)."""
    module = torch.nn.Linear(3, 2)
    ema = ExponentialMovingAverage(module, half_life_steps=5)
    decay = 0.5 ** (1 / 5)
    expected = module.weight.detach().double()
    for _ in range(12):
        with torch.no_grad():
            module.weight.add_(torch.randn_like(module.weight))
        ema.update(module)
        expected = decay * expected + (1 - decay) * module.weight.detach().double()
    torch.testing.assert_close(ema.averages["weight"].double(), expected, rtol=1e-5, atol=1e-6)


def test_half_life_means_what_it_says():
    """After a jump from 0 to 1, the average is one half at the half-life."""
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    ema = ExponentialMovingAverage(module, half_life_steps=7)
    torch.nn.init.ones_(module.weight)
    for _ in range(7):
        ema.update(module)
    torch.testing.assert_close(ema.averages["weight"], torch.full((1, 1), 0.5))


def test_loaded_averages_are_the_gathered_ones():
    """Out through one object and into another, bit for bit; the module itself is untouched."""
    module = torch.nn.Linear(3, 2)
    ema = ExponentialMovingAverage(module, half_life_steps=1)
    with torch.no_grad():
        module.weight.add_(1)
    weight = module.weight.detach().clone()
    ema.update(module)
    ranks = Ranks(rank=0, size=1, device=torch.device("cpu"))
    whole = ema.gathered(module, ranks)
    other = ExponentialMovingAverage(module, half_life_steps=1)
    other.load(module, whole, ranks)
    assert torch.equal(other.averages["weight"], ema.averages["weight"])
    assert torch.equal(module.weight, weight)
    assert not torch.equal(whole["weight"], weight)


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
