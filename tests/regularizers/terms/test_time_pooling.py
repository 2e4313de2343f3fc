from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffusability.regularizers.latents import pool_time


def test_the_first_frame_stays_and_the_others_are_averaged(noise: Callable[..., Tensor]) -> None:
    """Nine frames by 4 against the first frame and two averages, by slicing."""
    clips = noise(2, 3, 9, 4, 4)
    short = pool_time(clips, 4)
    assert short.shape == (2, 3, 3, 4, 4)
    assert torch.equal(short[:, :, 0], clips[:, :, 0])
    torch.testing.assert_close(short[:, :, 1], clips[:, :, 1:5].mean(2))
    torch.testing.assert_close(short[:, :, 2], clips[:, :, 5:9].mean(2))


def test_a_single_frame_stays(noise: Callable[..., Tensor]) -> None:
    """A clip of one frame against itself."""
    clips = noise(2, 3, 1, 4, 4)
    assert torch.equal(pool_time(clips, 4), clips)


def test_a_length_that_does_not_fit_is_refused() -> None:
    """Eight frames cannot be 1 + n * 4."""
    with pytest.raises(ValueError, match=r"8 frames cannot be shortened by 4: expected 1 \+ n \* 4"):
        pool_time(torch.zeros(1, 1, 8, 2, 2), 4)
