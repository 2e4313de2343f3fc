import re
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from diffusability.core.numerics.randomness import BatchRandomness, sent
from diffusability.core.numerics.seeds import derived_seed


def test_draws_depend_on_the_place_not_on_the_split():
    """A batch of eight against the same eight samples in two micro batches."""
    whole = BatchRandomness(seed=3, step=7, positions=range(8)).normal("noise", (2, 3))
    parts = (range(4), range(4, 8))
    halves = [BatchRandomness(seed=3, step=7, positions=part).normal("noise", (2, 3)) for part in parts]
    torch.testing.assert_close(torch.cat(halves), whole, rtol=0, atol=0)


def test_names_steps_and_seeds_give_other_draws():
    """Any of the three changed gives independent numbers: correlation within sampling error."""
    base = BatchRandomness(seed=0, step=0, positions=range(4))
    others = [
        base.normal("b", (1000,)),
        BatchRandomness(seed=0, step=1, positions=range(4)).normal("a", (1000,)),
        BatchRandomness(seed=1, step=0, positions=range(4)).normal("a", (1000,)),
    ]
    for other in others:
        correlation = np.corrcoef(base.normal("a", (1000,)).flatten(), other.flatten())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(4000)


def test_first_draws_of_many_streams_are_uniform():
    """A Kolmogorov-Smirnov test over one draw from each of 2,000 streams."""
    draws = BatchRandomness(seed=1, step=0, positions=range(2000)).uniform("t")
    assert scipy.stats.kstest(draws.numpy(), "uniform").pvalue > 1e-3


def test_choice_is_one_for_the_step():
    """Equal for all positions, and every option comes up over steps."""
    choices = [BatchRandomness(seed=0, step=step, positions=[0]).choice("factor", 3) for step in range(60)]
    again = [BatchRandomness(seed=0, step=step, positions=[5, 6]).choice("factor", 3) for step in range(60)]
    assert choices == again
    assert set(choices) == {0, 1, 2}


def test_derived_seeds_tell_types_and_borders_apart():
    """(1, "2") is not ("1", 2), nor ("12")."""
    assert len({derived_seed(1, "2"), derived_seed("1", 2), derived_seed("12"), derived_seed(12)}) == 4


@pytest.mark.parametrize(
    ("device", "expected"), [("cuda:1", [("pinned",), ("cuda:1", True)]), ("cpu", [("cpu", False)])]
)
def test_the_host_does_not_wait_for_a_copy_to_a_gpu(monkeypatch, device, expected):
    """From pinned memory, and not blocking: a copy from other memory waits for all that the GPU has before it."""
    calls = []

    def pin_memory(tensor):
        calls.append(("pinned",))
        return tensor

    def to(tensor, device, non_blocking=False):
        calls.append((str(device), non_blocking))
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", to)
    sent(torch.zeros(2), device)
    assert calls == expected


def test_what_is_drawn_in_a_step_is_sent_without_waiting():
    """No objective or regularizer moves what lies on the host in another way."""
    packages = Path(__file__).parents[3] / "packages"
    folders = ("models/src/diffusability/models/objectives", "regularizers/src/diffusability/regularizers/terms")
    sources = [path for folder in folders for path in (packages / folder).glob("*.py")]
    assert sources
    assert [path.name for path in sources if re.search(r"\.to\(\w+\.device", path.read_text())] == []
