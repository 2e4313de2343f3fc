"""Shapes for broadcasting and frames as images, against NumPy's own notation."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusability.core.numerics.axes import as_clips, as_frames, per_channel, per_sample

SHAPES = [(3, 2, 4, 5), (3, 2, 6, 4, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=["images", "clips"])
def test_values_multiply_samples_and_channels(shape):
    """Each sample or channel times its own number, as ``einsum`` has it."""
    data = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    by_sample, by_channel = torch.tensor([2.0, 3.0, 5.0]), torch.tensor([7.0, 11.0])
    np.testing.assert_array_equal(
        data * per_sample(by_sample, data), np.einsum("b...,b->b...", data.numpy(), by_sample.numpy())
    )
    np.testing.assert_array_equal(
        data * per_channel(by_channel, data), np.einsum("bc...,c->bc...", data.numpy(), by_channel.numpy())
    )
    assert per_sample(by_sample.bool(), data).shape == (3, *[1] * (len(shape) - 1))


def test_frames_of_clips_are_images_in_order():
    """Frame by frame against indexing; back again it is the same clip, and images stay what they are."""
    clips = torch.arange(3 * 2 * 6 * 4 * 5).reshape(3, 2, 6, 4, 5).float()
    frames = as_frames(clips)
    assert frames.shape == (18, 2, 4, 5)
    for clip in range(3):
        for time in range(6):
            assert torch.equal(frames[6 * clip + time], clips[clip, :, time])
    assert torch.equal(as_clips(frames, 3), clips)
    assert as_frames(clips[:, :, 0]).data_ptr() == clips.data_ptr()


def test_nobody_shapes_by_hand():
    """Every package uses these functions: no other place counts dimensions to broadcast, or flattens clips."""
    by_hand = re.compile(r"\[1\] \* \(\w+\.ndim|\(1,\) \* \(\w+\.ndim|transpose\(1, 2\)\.flatten\(0, 1\)")
    sources = Path(__file__).resolve().parents[3].glob("packages/*/src/**/*.py")
    named = {path.name for path in sources if by_hand.search(path.read_text())}
    assert named == {"axes.py", "inference_cost.py", "guidance.py"}  # the last two repeat latents, of whatever rank
