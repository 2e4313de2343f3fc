"""Regularizers that decode changed latents and compare with the whole image: masking, noise, fewer channels."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from toy_autoencoders import LinearConvolutions

from diffusability.core.contracts.objective import Batch, StepOutput
from diffusability.core.engine.task import TrainTask
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import RegularizerSpec
from diffusability.regularizers.terms.channel_dropout import first_channels
from diffusability.regularizers.terms.latent_masking import random_mask
from diffusability.regularizers.terms.latent_noise import noised

Task = Callable[..., TrainTask]
MakeBatch = Callable[..., Batch]
Noise = Callable[..., Tensor]
CONTEXT = BuildContext(autoencoder=AutoencoderInfo(latent_channels=4, spatial_factor=2))


class Recording(LinearConvolutions):
    """Remembers what it decoded last."""

    decoded: Tensor

    def decode(self, latents: Tensor) -> Tensor:
        self.decoded = latents
        return super().decode(latents)


def step_of(task: TrainTask, batch: Batch, **fields: Any) -> tuple[StepOutput, Tensor, torch.nn.Module]:
    regularizer = RegularizerSpec.model_validate(fields).build(CONTEXT).double()
    output = task.objective(batch)
    return output, regularizer(output, task.objective), regularizer


def changed(task: TrainTask) -> Tensor:
    autoencoder = task.objective.autoencoder
    assert isinstance(autoencoder, Recording)
    return autoencoder.decoded


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 3, 4, 6)])
def test_masks_cover_whole_blocks_of_every_sample(shape: tuple[int, ...], noise: Noise) -> None:
    """A share of a quarter of 2x2 blocks, of images and clips: counts, and constancy within blocks."""
    mask = random_mask(noise(*shape), 0.25, 2)
    assert mask.shape == (2, 1, *shape[1:-2], 8, 12)
    blocks = mask[..., ::2, ::2]
    assert blocks.flatten(1).sum(1).tolist() == [blocks[0].numel() // 4] * 2
    assert torch.equal(mask, blocks.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_masked_latents_are_the_token(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """What is decoded: the token in half of the places of each sample, the latents elsewhere; and the term by hand."""
    task, images = task_of(Recording()), noise(2, 3, 16, 16)
    fields = {"kind": "latent-masking", "ratios": [0.5], "probabilities": [1.0]}
    output, term, regularizer = step_of(task, batch_of(images), **fields)
    decoded = changed(task)
    token = regularizer.token.view(1, 4, 1, 1)
    masked = (decoded == token).all(1)
    assert masked.flatten(1).sum(1).tolist() == [32, 32]
    assert not torch.equal(masked[0], masked[1])
    expected = torch.where(masked.unsqueeze(1), token, output.latents)
    assert torch.equal(decoded, expected)
    torch.testing.assert_close(term, (LinearConvolutions().decode(expected) - images).abs().mean())
    term.backward()
    assert regularizer.token.grad.abs().sum() > 0
    assert task.objective.autoencoder.encoder.weight.grad.abs().sum() > 0


def test_masking_ratios_have_their_share_of_steps(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """Over 400 steps at the paper's probabilities; steps that mask nothing still give the token a gradient, of 0."""
    regularizer = RegularizerSpec.model_validate({"kind": "latent-masking"}).build(CONTEXT)
    draws = [batch_of(noise(1, 1, 1, 1), step).randomness.fraction("latent-masking") for step in range(400)]
    counts = Counter(regularizer.ratio(drawn) for drawn in draws)
    assert counts[0.0] == pytest.approx(280, abs=40)
    for ratio in (0.25, 0.5, 0.75):
        assert counts[ratio] == pytest.approx(40, abs=20)
    task = task_of(LinearConvolutions())
    quiet = next(step for step, drawn in enumerate(draws) if regularizer.ratio(drawn) == 0)
    term = regularizer(task.objective(batch_of(noise(1, 3, 8, 8), quiet)), task.objective)
    term.backward()
    assert term.item() == 0
    assert regularizer.token.grad.abs().sum() == 0


def test_noise_is_mixed_in_as_flow_matching_does(noise: Noise) -> None:
    """Both mixes against the formulas, for levels 0, 1/2 and 1."""
    latents, eps, levels = noise(3, 2, 4, 4), noise(3, 2, 4, 4, seed=1), torch.tensor([0.0, 0.5, 1.0])
    mixed = noised(latents, eps, levels, interpolate=True)
    torch.testing.assert_close(mixed, torch.stack([latents[0], (latents[1] + eps[1]) / 2, eps[2]]))
    added = noised(latents, eps, levels, interpolate=False)
    torch.testing.assert_close(added, torch.stack([latents[0], latents[1] + eps[1] / 2, latents[2] + eps[2]]))


def test_noised_latents_must_decode_to_the_image(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """A real task: the noise's strength against the spec's, levels that differ by sample, and the term by hand."""
    task, images = task_of(Recording()), noise(64, 3, 16, 16)
    fields = {"kind": "latent-noise", "mix": "add", "max_level": 0.8, "noise_scale": 2.0}
    output, term, _ = step_of(task, batch_of(images), **fields)
    decoded = changed(task)
    strength = (decoded - output.latents).flatten(1).std(1) / output.latents.std(correction=0)
    assert strength.mean().item() == pytest.approx(0.8, abs=0.15)  # the mean of 2 * U(0, 0.8)
    assert strength.std() > 0.3
    torch.testing.assert_close(term, (LinearConvolutions().decode(decoded) - images).abs().mean())


def test_only_the_first_channels_are_kept(noise: Noise) -> None:
    """Images and clips by slicing."""
    for latents in (noise(2, 4, 3, 3), noise(2, 4, 2, 3, 3)):
        kept = first_channels(latents, 3)
        assert torch.equal(kept[:, :3], latents[:, :3])
        assert kept[:, 3:].abs().sum() == 0


def test_channel_counts_are_drawn(task_of: Task, batch_of: MakeBatch, noise: Noise) -> None:
    """By default 1 to 3 of 4, about equally often; or those that the spec names."""
    task, images = task_of(Recording()), noise(1, 3, 8, 8)
    for fields, counts in (({}, {1, 2, 3}), ({"keep": [2]}, {2})):
        seen: Counter[int] = Counter()
        for step in range(60):
            _, term, _ = step_of(task, batch_of(images, step), kind="channel-dropout", **fields)
            seen[int((changed(task)[0].flatten(1).abs().sum(1) > 0).sum())] += 1
        assert set(seen) == counts
        assert min(seen.values()) > 60 / len(counts) / 3
        assert term.item() > 0
