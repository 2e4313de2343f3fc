import numpy as np
import scipy.stats
import torch

from diffusability.core.numerics.randomness import BatchRandomness
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
