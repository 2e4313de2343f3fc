"""Samples by their number: the same in any batch, kept on disk, and not made twice."""

from pathlib import Path

import attrs
import pytest
import torch
from torch import Tensor

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.sampler import Sampler
from diffusability.core.errors import NotFiniteError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.sampling.generation import ImageGenerator
from diffusability.core.sampling.sampled_latents import SampledLatents
from diffusability.core.specs.components import DenoiserSpec


class Still(Denoiser):
    """No velocity anywhere."""

    num_classes = 3

    def forward(
        self, latents: Tensor, time: Tensor, labels: Tensor | None, previous_estimate: Tensor | None = None
    ) -> Tensor:
        return torch.zeros_like(latents)


class Noisy(Sampler):
    """The noise, its label, and more noise of a stream of its own; counts the samples that it makes."""

    def __init__(self) -> None:
        self.made = 0

    def sample(
        self, denoiser: Denoiser, noise: Tensor, labels: Tensor | None = None, randomness: BatchRandomness | None = None
    ) -> Tensor:
        assert randomness is not None
        assert labels is not None
        self.made += len(noise)
        return noise + labels.view(-1, 1, 1, 1) + randomness.normal("more", noise.shape[1:])


def generator(folder: Path | None = None, seed: int = 4) -> ImageGenerator:
    model = DiffusionModel(
        denoiser=Still(),
        normalizer=LatentNormalizer(torch.tensor([1.0, -1.0]), torch.tensor([2.0, 3.0])),
        latent_shape=(2, 3, 3),
        num_classes=3,
        spec=DenoiserSpec.model_construct(kind="still"),
    )
    return ImageGenerator(
        model=model,
        sampler=Noisy(),
        decode=lambda latents: latents / 20,
        seed=seed,
        device=torch.device("cpu"),
        kept=None if folder is None else SampledLatents(folder),
    )


def test_a_sample_is_the_same_in_any_batch() -> None:
    """Images and labels of numbers 0 to 5 against the same in three batches; another seed differs."""
    whole = generator().at(range(6))
    for positions in ([0, 1], [5, 2], [3, 4]):
        part = generator().at(positions)
        torch.testing.assert_close(part.images, whole.images[positions], rtol=0, atol=0)
        assert part.labels is not None
        assert whole.labels is not None
        assert torch.equal(part.labels, whole.labels[positions])
    assert not torch.equal(generator(seed=5).at(range(6)).images, whole.images)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_samples_that_are_not_finite_are_refused(bad: float, tmp_path: Path) -> None:
    """What the sampler makes, and what the decoder makes of it: the clamp to [-1, 1] would hide infinity."""
    whole = generator()
    decoding = attrs.evolve(whole, decode=lambda latents: torch.full_like(latents, bad))
    with pytest.raises(NotFiniteError, match="decoded images of samples 4, 5 are not finite"):
        decoding.at([4, 5])
    whole.model.normalizer.mean[1] = bad
    keeping = attrs.evolve(whole, kept=SampledLatents(tmp_path))
    for make in (keeping.at, keeping.latents_at):
        with pytest.raises(NotFiniteError, match="sampled latents of samples 4, 5 are not finite"):
            make([4, 5])
    assert not dict(SampledLatents(tmp_path).read([4, 5]))


def test_kept_samples_are_not_made_again(tmp_path: Path) -> None:
    """An interrupted generation against an uninterrupted one: equal images, and only what was missing is sampled.

    The second process uses other batches, as one of another number of ranks does.
    """
    expected = generator().at(range(8)).images
    generator(tmp_path / "kept").at(range(3))
    second = generator(tmp_path / "kept")
    images = torch.cat([second.at([0, 1]).images, second.at([2, 3, 4, 5]).images, second.at([6, 7]).images])
    torch.testing.assert_close(images, expected, rtol=0, atol=0)
    assert second.sampler.made == 5


def test_a_file_that_is_cut_short_counts_as_missing(tmp_path: Path) -> None:
    """Samples made again in place of a damaged file against the first ones; files being written are not looked at."""
    expected = generator(tmp_path / "kept").at(range(3)).images
    (path,) = (tmp_path / "kept").iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    (tmp_path / "kept" / "00000000-00000002.77.partial").write_bytes(b"half")
    again = generator(tmp_path / "kept")
    torch.testing.assert_close(again.at(range(3)).images, expected, rtol=0, atol=0)
    assert again.sampler.made == 3
    SampledLatents(tmp_path / "kept").remove()
    assert not (tmp_path / "kept").exists()


def test_an_empty_request_is_an_empty_answer(tmp_path: Path) -> None:
    """A store without files finds nothing."""
    assert SampledLatents(tmp_path / "none").read(range(3)) == {}


@pytest.mark.parametrize("split", [1, 4])
def test_samples_of_ranks_are_those_of_one_process(split: int) -> None:
    """Batches that ranks take in turn, joined, against one batch."""
    whole = generator().at(range(8)).images
    parts = [generator().at(range(first, first + split)).images for first in range(0, 8, split)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)
