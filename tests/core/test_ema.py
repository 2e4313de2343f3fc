import torch

from diffusability.core.engine.ema import ExponentialMovingAverage


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
    torch.testing.assert_close(ema.state_dict()["weight"].double(), expected, rtol=1e-5, atol=1e-6)


def test_half_life_means_what_it_says():
    """After a jump from 0 to 1, the average is one half at the half-life."""
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    ema = ExponentialMovingAverage(module, half_life_steps=7)
    torch.nn.init.ones_(module.weight)
    for _ in range(7):
        ema.update(module)
    torch.testing.assert_close(ema.state_dict()["weight"], torch.full((1, 1), 0.5))


def test_applied_weights_are_put_back_bit_for_bit():
    """Inside the block the average, outside the weights; also after an error."""
    module = torch.nn.Linear(3, 2)
    before = module.weight.detach().clone()
    ema = ExponentialMovingAverage(module, half_life_steps=1)
    with torch.no_grad():
        module.weight.add_(1)
    changed = module.weight.detach().clone()
    try:
        with ema.applied(module):
            assert torch.equal(module.weight, before)
            raise RuntimeError
    except RuntimeError:
        pass
    assert torch.equal(module.weight, changed)
