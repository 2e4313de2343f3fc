import pytest
import torch

from diffusability.core.engine.training_loop import learning_rate_factor
from diffusability.core.specs.training import LearningRateSpec


def test_cosine_agrees_with_torch():
    """torch's CosineAnnealingLR over the same number of steps, shifted by its convention of starting at 1."""
    spec = LearningRateSpec(decay="cosine", final_share=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.1)
    for step in range(20):
        optimizer.step()
        scheduler.step()
        assert learning_rate_factor(spec, step, 20) == pytest.approx(scheduler.get_last_lr()[0])


def test_warmup_is_linear_and_meets_the_peak():
    """Closed form: (step + 1) / warmup."""
    spec = LearningRateSpec(warmup_steps=4)
    assert [learning_rate_factor(spec, step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_linear_decay_ends_at_its_final_share():
    """The last of ten steps after two of warm-up."""
    spec = LearningRateSpec(warmup_steps=2, decay="linear", final_share=0.25)
    assert learning_rate_factor(spec, 9, 10) == pytest.approx(0.25)
    assert learning_rate_factor(spec, 5, 10) == pytest.approx(0.25 + 0.75 * 0.5)
