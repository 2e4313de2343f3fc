"""Samples from Python: against a plain Euler loop, and against the generator of runs."""

from itertools import pairwise

import pytest
import torch

from diffusability.core import BatchRandomness, DiT, LatentNormalizer, SpecError, sample

SHAPE = (4, 8, 8)


def velocity(latents, time):
    """A velocity that depends on both."""
    return latents * (0.5 + time.view(-1, 1, 1, 1))


def test_euler_of_a_function_is_a_plain_loop():
    """``z <- z + (t' - t) v(z, t)`` from the same noise, at the same times."""
    noise = BatchRandomness(seed=5, step=0, positions=range(3)).normal("sampling", SHAPE, torch.device("cpu"))
    expected, times = noise, [1 - step / 7 for step in range(8)]
    for time, following in pairwise(times):
        expected = expected + (following - time) * velocity(expected, torch.full((3,), time))
    torch.testing.assert_close(sample(velocity, SHAPE, 3, steps=7, seed=5), expected)


def test_sample_k_depends_on_the_seed_and_k_alone():
    """Two halves are the whole; another seed gives others."""
    whole = sample(velocity, SHAPE, 6, steps=3)
    halves = [sample(velocity, SHAPE, 3, steps=3, first=first) for first in (0, 3)]
    assert torch.equal(torch.cat(halves), whole)
    assert not torch.equal(sample(velocity, SHAPE, 6, steps=3, seed=1), whole)


def test_latents_are_denormalised_and_decoded():
    """Images are the decoder's of what the normaliser gives back, clamped."""
    normalizer = LatentNormalizer(torch.arange(4.0), torch.full((4,), 2.0))
    plain = sample(velocity, SHAPE, 2, steps=2)
    raw = sample(velocity, SHAPE, 2, steps=2, normalizer=normalizer)
    torch.testing.assert_close(raw, plain * 2 + torch.arange(4.0).view(1, 4, 1, 1))
    images = sample(velocity, SHAPE, 2, steps=2, normalizer=normalizer, decode=lambda latents: latents[:, :3])
    assert torch.equal(images, raw[:, :3].clamp(-1, 1))


def test_a_dit_samples_by_class_and_with_guidance():
    """Classes decide, guidance matters, and the model stays in training mode; a function with classes does likewise."""
    torch.manual_seed(0)
    model = DiT(SHAPE, "Ti/2", num_classes=3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    model.train()
    made = [sample(model, SHAPE, 2, labels=label, steps=2) for label in (0, 1)]
    assert not torch.equal(*made)
    assert torch.equal(sample(model, SHAPE, 2, labels=[0, 0], steps=2), made[0])
    assert not torch.equal(sample(model, SHAPE, 2, labels=0, steps=2, guidance_scale=3.0), made[0])
    assert model.training
    by_function = sample(model.eval().forward, SHAPE, 2, labels=0, num_classes=3, steps=2)
    torch.testing.assert_close(by_function, made[0])


def test_predictions_of_data_sample_the_data():
    """A denoiser that always predicts one image leads there: the last Euler step of a data prediction lands on it."""
    target = torch.linspace(-1, 1, 256).view(1, *SHAPE)
    made = sample(lambda z, t: target.expand_as(z), SHAPE, 2, steps=5, prediction="data")
    torch.testing.assert_close(made, target.expand_as(made), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "eulr"}, "unknown sampler 'eulr'.*did you mean 'euler'"),
        ({"sampler": {"kind": "heun", "stepz": 3}}, "unknown key 'stepz'"),
        ({"guidance_scale": 2.0}, "unconditional"),
        ({"labels": 1}, "the model is unconditional; give num_classes"),
        ({"labels": [0, 9], "num_classes": 3}, "expected 2 numbers from 0 to 2"),
    ],
)
def test_mistakes_are_named(options, message):
    """Before anything is computed."""
    with pytest.raises(SpecError, match=message):
        sample(velocity, SHAPE, 2, **options)


def test_wrong_options_of_a_dit_are_named():
    """Unknown fields and latents that cannot be cut."""
    with pytest.raises(SpecError, match="unknown key 'hedas'"):
        DiT(SHAPE, "Ti/2", hedas=3)
    with pytest.raises(SpecError, match="9"):
        DiT((4, 9, 9), "Ti/2")
