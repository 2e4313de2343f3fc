"""Rectified flow: the objective that trains a denoiser to predict velocities."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.normalizer import LatentNormalizer
from diffusability.core.objective import Batch, Objective, StepOutput
from diffusability.core.randomness import BatchRandomness
from diffusability.core.sampler import Sampler
from diffusability.core.saved_models import DiffusionModel, save_diffusion_model
from diffusability.core.shapes import Images, Labels, Latents, Times
from diffusability.models.specs import FlowMatchingSpec

_NUM_TIME_BINS = 4


def logit_normal_times(randomness: BatchRandomness, mean: float = 0.0, std: float = 1.0) -> Times:
    """Times in (0, 1) whose logit is normal, one for each sample, on the CPU (Esser et al. 2024, section 3.1)."""
    return torch.sigmoid(mean + std * randomness.normal("time", ()))


def uniform_times(randomness: BatchRandomness) -> Times:
    """Times uniform in [0, 1), one for each sample, on the CPU."""
    return randomness.uniform("time")


def interpolate(latents: Latents, noise: Latents, time: Times) -> Latents:
    """``z_t = (1 - t) z + t eps``: data at t = 0, noise at t = 1 (Liu et al. 2023, equation 1, time reversed)."""
    t = time.to(latents.dtype).view(-1, *[1] * (latents.ndim - 1))
    return (1 - t) * latents + t * noise


def velocity(latents: Latents, noise: Latents) -> Latents:
    """``v = eps - z``, the derivative of ``interpolate`` with respect to time."""
    return noise - latents


def drop_labels(labels: Labels, uniform: Float[Tensor, " b"], share: float, no_class: int) -> Labels:
    """Labels, with those whose number in [0, 1) is below ``share`` replaced by ``no_class``."""
    return torch.where(uniform < share, torch.full_like(labels, no_class), labels)


def means_by_time(errors: Float[Tensor, " b"], time: Times) -> dict[str, Tensor]:
    """Mean error in each quarter of [0, 1] that has samples, named such as ``velocity_t0.25-0.50``.

    ``time`` should be on the CPU, so that nothing waits for an accelerator.
    """
    bins = (time * _NUM_TIME_BINS).long().clamp(0, _NUM_TIME_BINS - 1)
    return {
        f"velocity_t{index / _NUM_TIME_BINS:.2f}-{(index + 1) / _NUM_TIME_BINS:.2f}": errors[
            (bins == index).nonzero().flatten().to(errors.device)
        ].mean()
        for index in sorted(set(bins.tolist()))
    }


class FlowMatching(Objective):
    """The mean squared error of predicted velocities of normalised latents (Liu et al. 2023; Esser et al. 2024)."""

    provides = FlowMatchingSpec.provides

    def __init__(
        self, *, model: DiffusionModel, label_dropout: float, draw_times: Callable[[BatchRandomness], Times]
    ) -> None:
        super().__init__()
        self.denoiser = model.denoiser
        self.normalizer = model.normalizer
        self.latent_shape = model.latent_shape
        self.denoiser_spec = model.spec
        self.label_dropout = label_dropout
        self.draw_times = draw_times

    def use_normalizer(self, normalizer: LatentNormalizer) -> None:
        """Takes over the statistics of the latents that will be trained on. Raises DataError when channels differ."""
        given, expected = len(normalizer.mean), len(self.normalizer.mean)
        if given != expected:
            raise DataError(f"the normaliser is for latents of {given} channels, the denoiser's have {expected}")
        self.normalizer.mean.copy_(normalizer.mean)
        self.normalizer.std.copy_(normalizer.std)

    def _labels(self, batch: Batch) -> Labels | None:
        """The batch's labels as the denoiser takes them; while training, a share of them is dropped."""
        no_class = self.denoiser.num_classes
        if batch.labels is None or no_class is None:
            return None
        if not self.training or self.label_dropout == 0:
            return batch.labels
        uniform = batch.randomness.uniform("label-dropout", batch.labels.device)
        return drop_labels(batch.labels, uniform, self.label_dropout, no_class)

    def forward(self, batch: Batch) -> StepOutput:
        """Noises raw latents after normalising them, and compares velocities.

        Monitors: the loss in each quarter of time that has samples.
        """
        latents = self.normalizer.normalize(batch.data)
        noise = batch.randomness.normal("noise", latents.shape[1:], latents.device)
        drawn = self.draw_times(batch.randomness)
        time = drawn.to(latents.device)
        prediction = self.denoiser(interpolate(latents, noise, time), time, self._labels(batch))
        target = velocity(latents, noise)
        errors = (prediction.float() - target.float()).square().flatten(1).mean(1)
        return StepOutput(
            losses={"velocity": errors.mean()},
            batch=batch,
            latents=batch.data,
            time=time,
            prediction=prediction,
            target=target,
            monitors=means_by_time(errors.detach(), drawn),
        )

    def preview(
        self, batch: Batch, sampler: Sampler | None, decode: Callable[[Latents], Images] | None
    ) -> Mapping[str, Images]:
        """As many samples as the batch has latents, with its labels. Empty without a sampler and a decoder."""
        if sampler is None or decode is None:
            return {}
        noise = batch.randomness.normal("preview", self.latent_shape, batch.data.device)
        labels = batch.labels if self.denoiser.num_classes is not None else None
        samples = self.normalizer.denormalize(sampler.sample(self.denoiser, noise, labels))
        return {"samples": decode(samples).clamp(-1, 1)}

    def diffusion_model(self) -> DiffusionModel:
        """The denoiser as it is now, with the normaliser and the spec that rebuilds it."""
        return DiffusionModel(
            denoiser=self.denoiser,
            normalizer=self.normalizer,
            latent_shape=self.latent_shape,
            num_classes=self.denoiser.num_classes,
            spec=self.denoiser_spec,
        )

    def save(self, directory: Path) -> None:
        """Writes the denoiser and the normaliser."""
        save_diffusion_model(self.diffusion_model(), directory)
