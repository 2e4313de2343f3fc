"""What objectives that train a denoiser have in common: labels, the normaliser, previews and saving."""

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.objective import Batch, Objective
from diffusability.core.contracts.parametrisation import Parametrisation
from diffusability.core.contracts.sampler import Sampler
from diffusability.core.contracts.velocity_model import VelocityModel, data_estimate
from diffusability.core.errors import DataError
from diffusability.core.models.saved_models import save_diffusion_model
from diffusability.core.numerics.randomness import sent
from diffusability.core.shapes import Images, Labels, Latents, Predictions, Times

_NUM_TIME_BINS = 4


def means_by_time(errors: Float[Tensor, " b"], time: Times, name: str = "velocity") -> dict[str, Tensor]:
    """Mean error in each quarter of [0, 1] that has samples, named such as ``velocity_t0.25-0.50``.

    ``time`` should be on the CPU, so that nothing waits for an accelerator.
    """
    bins = (time * _NUM_TIME_BINS).long().clamp(0, _NUM_TIME_BINS - 1)
    return {
        f"{name}_t{index / _NUM_TIME_BINS:.2f}-{(index + 1) / _NUM_TIME_BINS:.2f}": errors[
            sent((bins == index).nonzero().flatten(), errors.device)
        ].mean()
        for index in sorted(set(bins.tolist()))
    }


#: Share of steps at which a self-conditioning denoiser sees an estimate of its own (Chen et al. 2022, section 3.2).
SELF_CONDITIONED_SHARE = 0.5


def drop_labels(labels: Labels, uniform: Float[Tensor, " b"], share: float, no_class: int) -> Labels:
    """Labels, with those whose number in [0, 1) is below ``share`` replaced by ``no_class``."""
    return torch.where(uniform < share, torch.full_like(labels, no_class), labels)


class DenoisingObjective(Objective):
    """Trains a denoiser on raw latents, which it normalises.

    Attributes:
        denoiser: what is trained.
        normalizer: what scales latents.
        model: both, with what rebuilds the denoiser; its parametrisation is that of this objective.
        label_dropout: share of labels replaced by "no class" while training.
    """

    def __init__(self, *, model: DiffusionModel, parametrisation: Parametrisation, label_dropout: float) -> None:
        super().__init__()
        self.denoiser = model.denoiser
        self.normalizer = model.normalizer
        self.model = attrs.evolve(model, parametrisation=parametrisation)
        self.label_dropout = label_dropout

    def use_normalizer(self, normalizer: LatentNormalizer) -> None:
        """Takes over the statistics of the latents that will be trained on. Raises DataError when channels differ."""
        given, expected = len(normalizer.mean), len(self.normalizer.mean)
        if given != expected:
            raise DataError(f"the normaliser is for latents of {given} channels, the denoiser's have {expected}")
        self.normalizer.take_over(normalizer)

    def labels_of(self, batch: Batch) -> Labels | None:
        """The batch's labels as the denoiser takes them; while training, a share of them is dropped."""
        no_class = self.denoiser.num_classes
        if batch.labels is None or no_class is None:
            return None
        if not self.training or self.label_dropout == 0:
            return batch.labels
        uniform = batch.randomness.uniform("label-dropout", batch.labels.device)
        return drop_labels(batch.labels, uniform, self.label_dropout, no_class)

    def predict(self, seen: Latents, seen_time: Times, noisy: Latents, time: Times, batch: Batch) -> Predictions:
        """The denoiser's prediction.

        A self-conditioning denoiser gets, at half of the steps, an estimate of the data that it has made itself of the
        same latents, without gradients. All ranks and micro batches of a step do the same.

        Args:
            seen: noisy latents as the denoiser takes them.
            seen_time: times as the denoiser takes them.
            noisy: the same latents on the straight path.
            time: the same times on the straight path.
            batch: labels and randomness.
        """
        labels = self.labels_of(batch)
        estimate = None
        if self.denoiser.self_conditioning and batch.randomness.fraction("self-conditioning") < SELF_CONDITIONED_SHARE:
            with torch.no_grad():
                velocity = VelocityModel(self.denoiser, self.model.parametrisation)(noisy, time, labels)
                estimate = data_estimate(velocity, noisy, time)
            # What autocast has cast without gradients must not serve the pass that needs them.
            torch.clear_autocast_cache()
        extra = () if estimate is None else (estimate,)
        predicted: Predictions = self.denoiser(seen, seen_time, labels, *extra)
        return predicted

    def preview(
        self, batch: Batch, sampler: Sampler | None, decode: Callable[[Latents], Images] | None
    ) -> Mapping[str, Images]:
        """As many samples as the batch has latents, with its labels. Empty without a sampler and a decoder."""
        if sampler is None or decode is None:
            return {}
        noise = batch.randomness.normal("preview", self.model.latent_shape, batch.data.device)
        labels = batch.labels if self.denoiser.num_classes is not None else None
        normalized = sampler.sample(self.model.velocity_model(), noise, labels, batch.randomness)
        return {"samples": decode(self.normalizer.denormalize(normalized)).clamp(-1, 1)}

    def diffusion_model(self) -> DiffusionModel:
        """The denoiser as it is now, with the normaliser and the spec that rebuilds it."""
        return attrs.evolve(self.model, num_classes=self.denoiser.num_classes)

    def save(self, directory: Path) -> None:
        """Writes the denoiser and the normaliser."""
        save_diffusion_model(self.diffusion_model(), directory)
