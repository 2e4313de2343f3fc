"""Rectified flow: the objective that trains a denoiser along the straight path between data and noise."""

from collections.abc import Callable
from functools import partial

import torch

from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.objective import Batch, StepOutput
from diffusability.core.contracts.parametrisation import Parametrisation, Prediction, interpolate, velocity
from diffusability.core.numerics.randomness import BatchRandomness, sent
from diffusability.core.shapes import Latents, Times
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.objectives.denoising_objective import DenoisingObjective, means_by_time
from diffusability.models.objectives.loss_weights import loss_weight
from diffusability.models.objectives.starting_model import starting_model
from diffusability.models.specs.objectives.flow_matching import FlowMatchingSpec


def logit_normal_times(randomness: BatchRandomness, mean: float = 0.0, std: float = 1.0) -> Times:
    """Times in (0, 1) whose logit is normal (Esser et al. 2024, section 3.1)."""
    return torch.sigmoid(mean + std * randomness.normal("time", ()))


def uniform_times(randomness: BatchRandomness) -> Times:
    """Times uniform in [0, 1)."""
    return randomness.uniform("time")


def shifted_times(times: Times, shift: float) -> Times:
    """``s t / (1 + (s - 1) t)``: towards noise for s > 1, as large latents want it (Esser et al. 2024, equation 23)."""
    return shift * times / (1 + (shift - 1) * times)


def target_of(prediction: Prediction, latents: Latents, noise: Latents) -> Latents:
    """What a prediction is compared with: velocity, data or noise."""
    if prediction == "velocity":
        return velocity(latents, noise)
    return latents if prediction == "data" else noise


def training_times(spec: FlowMatchingSpec, shift: float, randomness: BatchRandomness) -> Times:
    """The times of a batch, drawn from the distribution that a spec names, and shifted."""
    if spec.time_distribution == "uniform":
        times = uniform_times(randomness)
    else:
        times = logit_normal_times(randomness, spec.time_mean, spec.time_std)
    return times if shift == 1 else shifted_times(times, shift)


class FlowMatching(DenoisingObjective):
    """The weighted squared error of predictions of velocity, data or noise (Liu et al. 2023; Esser et al. 2024)."""

    def __init__(
        self,
        *,
        model: DiffusionModel,
        label_dropout: float,
        draw_times: Callable[[BatchRandomness], Times],
        prediction: Prediction = "velocity",
        weight: Callable[[Times], Times] | None = None,
        loss_name: str = "velocity",
    ) -> None:
        super().__init__(
            model=model, parametrisation=Parametrisation(prediction=prediction), label_dropout=label_dropout
        )
        self.draw_times = draw_times
        self.weight = weight
        self.loss_name = loss_name

    @classmethod
    def from_spec(cls, spec: FlowMatchingSpec, context: BuildContext) -> "FlowMatching":
        loss_on = spec.loss_on or spec.prediction
        weighted = spec.weighting != "none" or loss_on != spec.prediction
        return cls(
            model=starting_model(spec.denoiser, context, Parametrisation(prediction=spec.prediction)),
            label_dropout=spec.label_dropout,
            draw_times=partial(training_times, spec, spec.shift(context.latent_shape)),
            prediction=spec.prediction,
            weight=partial(loss_weight, spec.prediction, loss_on, spec.weighting, spec.strength())
            if weighted
            else None,
            loss_name=loss_on if spec.weighting == "none" else spec.weighting,
        )

    def forward(self, batch: Batch) -> StepOutput:
        """Noises raw latents after normalising them, and compares predictions.

        Monitors: the loss in each quarter of time that has samples.
        """
        latents = self.normalizer.normalize(batch.data)
        noise = batch.randomness.normal("noise", latents.shape[1:], latents.device)
        drawn = self.draw_times(batch.randomness)
        time = sent(drawn, latents.device)
        noisy = interpolate(latents, noise, time)
        predicted = self.predict(noisy, time, noisy, time, batch)
        target = target_of(self.model.parametrisation.prediction, latents, noise)
        errors = (predicted.float() - target.float()).square().flatten(1).mean(1)
        if self.weight is not None:
            errors = errors * sent(self.weight(drawn), errors.device)
        return StepOutput(
            losses={self.loss_name: errors.mean()},
            batch=batch,
            latents=batch.data,
            time=time,
            prediction=predicted,
            target=target,
            monitors=means_by_time(errors.detach(), drawn, self.loss_name),
        )
