"""Images from a trained denoiser. The k-th sample depends on the seed and k alone."""

from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor

from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.sampler import Sampler
from diffusability.core.errors import DataError
from diffusability.core.numerics.finite import require_finite
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.sampling.sampled_latents import SampledLatents
from diffusability.core.shapes import Images, Labels, Latents


@attrs.frozen(kw_only=True, eq=False)
class Generated:
    """Generated images in [-1, 1] and the classes that they were made for (None for an unconditional model)."""

    images: Images
    labels: Labels | None


def balanced_labels(seed: int, positions: Sequence[int], num_classes: int) -> Labels:
    """Classes of samples of which every ``num_classes``, from the first, hold each class once, in a random order.

    The k-th depends on the seed and k alone. As in the protocol of RAE (arXiv 2510.11690), where a fixed number of
    samples of each class is generated: the class frequencies add nothing to the variance of a distance.
    """

    def order(round_number: int) -> Tensor:
        generator = torch.Generator().manual_seed(derived_seed(seed, "balanced-labels", round_number))
        return torch.randperm(num_classes, generator=generator)

    orders = {number: order(number) for number in {position // num_classes for position in positions}}
    return torch.tensor([int(orders[position // num_classes][position % num_classes]) for position in positions])


@attrs.frozen(kw_only=True, eq=False)
class ImageGenerator:
    """A trained denoiser, a sampler and a decoder, asked for samples by their number.

    The labels of a conditional model are drawn uniformly and independently, or so that all are equally frequent. The
    denoiser runs under autocast when a dtype is given; the decoder runs in float32.

    Attributes:
        model: the denoiser with its normaliser, on ``device``, in eval mode.
        sampler: carries noise to normalised latents.
        decode: raw latents to images.
        seed: of noise and labels.
        device: where it computes.
        autocast_dtype: of the denoiser; None for float32.
        kept: where sampled latents are kept and looked for; None for nowhere.
        balanced: whether each class comes once in every ``num_classes`` samples, in a random order.
    """

    model: DiffusionModel
    sampler: Sampler
    decode: Callable[[Latents], Images]
    seed: int
    device: torch.device
    autocast_dtype: torch.dtype | None = None
    kept: SampledLatents | None = None
    balanced: bool = False

    @torch.no_grad()
    def at(self, positions: Sequence[int], labels: Labels | int | None = None) -> Generated:
        """The samples of these numbers, which do not depend on the rank or the batch that makes them.

        Noise and drawn labels are the same to the bit. What is made of them may differ in the last bits between batch
        sizes, for which kernels may sum in another order.

        Args:
            positions: numbers of the samples.
            labels: their classes, or one for all; by default drawn at random. What is kept is not used for others.

        Raises:
            DataError: the model has no such class, or none at all.
            NotFiniteError: a sample holds NaN or infinity.
        """
        if labels is None:
            latents, chosen = self.latents_at(positions), self._labels(positions)
        else:
            self.check_label(labels)
            same = torch.tensor([labels] * len(positions)) if isinstance(labels, int) else labels
            chosen = same.to(self.device)
            latents = self._sampled(positions, chosen)
        images = self.decode(latents).float()
        require_finite(images, "decoded images", positions)  # the clamp would hide infinity
        return Generated(images=images.clamp(-1, 1), labels=chosen)

    @torch.no_grad()
    def latents_at(self, positions: Sequence[int]) -> Latents:
        """The raw latents of the samples of these numbers. What is kept is not made again."""
        latents = dict(self.kept.read(positions)) if self.kept is not None else {}
        missing = [position for position in positions if position not in latents]
        if missing:
            made = self._sampled(missing, self._labels(missing))
            if self.kept is not None:
                self.kept.keep(missing, made)
            if len(missing) == len(positions):
                return made
            latents |= dict(zip(missing, made, strict=True))
        return torch.stack([latents[position].to(self.device) for position in positions])

    def _labels(self, positions: Sequence[int]) -> Labels | None:
        if self.model.num_classes is None:
            return None
        if self.balanced:
            return balanced_labels(self.seed, positions, self.model.num_classes).to(self.device)
        randomness = BatchRandomness(seed=self.seed, step=0, positions=positions)
        return randomness.integers("sampling-labels", self.model.num_classes, self.device)

    def _sampled(self, positions: Sequence[int], labels: Labels | None) -> Latents:
        randomness = BatchRandomness(seed=self.seed, step=0, positions=positions)
        noise = randomness.normal("sampling", self.model.latent_shape, self.device)
        dtype = self.autocast_dtype
        with torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            normalized = self.sampler.sample(self.model.velocity_model(), noise, labels, randomness)
        latents = self.model.normalizer.denormalize(normalized.float())
        require_finite(latents, "sampled latents", positions)
        return latents

    def check_label(self, labels: Labels | int | None) -> None:
        """Raises DataError when the model has no such class, or none at all."""
        if labels is None:
            return
        num_classes = self.model.num_classes
        given = [labels] if isinstance(labels, int) else labels.tolist()
        if num_classes is None:
            raise DataError(f"label {given[0]!r} was given, and the model is unconditional (num_classes is None)")
        for label in given:
            if not 0 <= label < num_classes:
                raise DataError(
                    f"label {label!r} is out of range for a model of {num_classes} classes; expected 0 to"
                    f" {num_classes - 1}"
                )
