from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toy_autoencoders import Identity, LinearConvolutions

from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.task import TrainTask
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.specs.build_context import BuildContext
from diffusability.regularizers.specs.equivariance import EquivarianceSpec
from diffusability.regularizers.terms.equivariance import Transform, drawn, equivariance_loss

Task = Callable[..., TrainTask]
MakeBatch = Callable[..., Batch]
Noise = Callable[..., Tensor]


def at(step: int) -> BatchRandomness:
    return BatchRandomness(seed=3, step=step, positions=range(2))


def test_the_loss_is_that_of_the_paper(noise: Noise) -> None:
    """Scaled, turned and mirrored with plain torch, for a convolution as decoder; gradients by finite differences."""
    images, latents = noise(1, 3, 16, 24), noise(1, 2, 8, 12, seed=1).requires_grad_()
    weight = noise(2, 3, 2, 2, seed=2).requires_grad_()

    def loss(z: Tensor, w: Tensor) -> Tensor:
        transform = Transform(size=(6, 9), quarter_turns=1, mirrored=True)
        return equivariance_loss(images, z, lambda x: F.conv_transpose2d(x, w, stride=2), F.mse_loss, transform)

    def moved(maps: Tensor, size: tuple[int, int]) -> Tensor:
        return torch.rot90(F.interpolate(maps, size, mode="bilinear"), 1, [-2, -1]).flip(-1)

    expected = F.mse_loss(F.conv_transpose2d(moved(latents, (6, 9)), weight, stride=2), moved(images, (12, 18)))
    torch.testing.assert_close(loss(latents, weight), expected)
    assert torch.autograd.gradcheck(loss, (latents, weight))


def test_the_identity_pays_nothing(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """Images and clips over many steps, against 0."""
    task = task_of(Identity())
    regularizer = EquivarianceSpec(anisotropic=True, flips=True).build(BuildContext())
    for step in range(12):
        for images in (noise(1, 3, 8, 8), noise(1, 3, 3, 8, 8)):
            assert regularizer(task.objective(batch_of(images, step)), task.objective).item() == pytest.approx(
                0, abs=1e-12
            )


def test_transforms_are_drawn_as_in_the_paper() -> None:
    """Over 2,000 steps on 32x32 latents: scales of 8/32 to 31/32, three turns, all about equal, and no mirror, as in
    the authors' code; with ``flips`` a mirror in half, and all else the same."""
    spec = EquivarianceSpec()
    transforms = [drawn(spec, (32, 32), at(step)) for step in range(2000)]
    sizes = Counter(transform.size for transform in transforms)
    assert set(sizes) == {(side, side) for side in range(8, 32)}
    assert max(sizes.values()) < 2 * 2000 / 24
    turns = Counter(transform.quarter_turns for transform in transforms)
    assert set(turns) == {1, 2, 3}
    assert min(turns.values()) > 580
    assert not any(transform.mirrored for transform in transforms)
    flipped = [drawn(EquivarianceSpec(flips=True), (32, 32), at(step)) for step in range(2000)]
    assert 900 < sum(transform.mirrored for transform in flipped) < 1100
    assert [(t.size, t.quarter_turns) for t in flipped] == [(t.size, t.quarter_turns) for t in transforms]


def test_options_switch_transforms_off() -> None:
    """No rotation, no mirror, no scale; and two scales where they may differ."""
    plain = [drawn(EquivarianceSpec(rotations=False, flips=False), (8, 8), at(step)) for step in range(30)]
    assert {(t.quarter_turns, t.mirrored) for t in plain} == {(0, False)}
    assert {drawn(EquivarianceSpec(min_scale=1), (8, 8), at(step)).size for step in range(30)} == {(8, 8)}
    both = [drawn(EquivarianceSpec(anisotropic=True), (8, 8), at(step)).size for step in range(30)]
    assert any(height != width for height, width in both)


def test_steps_are_shared_out_by_probability(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """Shares of steps that transform, that take small images, and that do nothing, by calls of encoder and decoder."""

    class Watched(LinearConvolutions):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []

        def encode(self, images: Tensor):
            self.calls.append("encode")
            return super().encode(images)

        def decode(self, latents: Tensor) -> Tensor:
            self.calls.append("decode")
            return super().decode(latents)

    task, kinds = task_of(Watched()), Counter()
    regularizer = EquivarianceSpec().build(BuildContext())
    images = noise(1, 3, 16, 16)
    for step in range(200):
        output = task.objective(batch_of(images, step))
        task.objective.autoencoder.calls.clear()
        term = regularizer(output, task.objective)
        kinds[tuple(task.objective.autoencoder.calls)] += 1
        assert (term.item() == 0) == (not task.objective.autoencoder.calls)
    assert kinds[("decode",)] == pytest.approx(100, abs=25)
    assert kinds[("encode", "decode")] == pytest.approx(25, abs=15)
    assert sum(kinds.values()) == 200


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"min_scale": 1, "rotations": False, "flips": False}, None, "leaves everything as it is"),
        ({}, (4, 1, 1), "less than one pixel"),
    ],
)
def test_what_can_do_nothing_is_refused(fields: dict, shape: tuple[int, ...] | None, message: str) -> None:
    """At reading, or once the latents' shape is known."""
    with pytest.raises(ValueError, match=message):
        EquivarianceSpec(**fields).check_latents(shape or (4, 8, 8))
