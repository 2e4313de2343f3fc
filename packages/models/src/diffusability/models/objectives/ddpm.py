"""DDPM: the objective of the original DiT, on discrete steps with linear betas."""

from jaxtyping import Int
from torch import Tensor

from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.linear_betas import LinearBetas
from diffusability.core.contracts.objective import Batch, StepOutput
from diffusability.core.contracts.parametrisation import Parametrisation
from diffusability.core.numerics.axes import per_sample
from diffusability.core.numerics.randomness import sent
from diffusability.core.shapes import Latents
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.objectives.ddpm_variance import learned_log_variance, variational_bound
from diffusability.models.objectives.denoising_objective import DenoisingObjective, means_by_time
from diffusability.models.objectives.starting_model import starting_model
from diffusability.models.specs.objectives.ddpm import DDPMSpec


def noised(schedule: LinearBetas, latents: Latents, noise: Latents, steps: Int[Tensor, " b"]) -> Latents:
    """``z_k = sqrt(abar_k) z + sqrt(1 - abar_k) eps`` (Ho et al. 2020, equation 4)."""
    share = per_sample(sent(schedule.alphas_bar, latents.device)[steps], latents)
    return share.sqrt().to(latents.dtype) * latents + (1 - share).sqrt().to(latents.dtype) * noise


class DDPM(DenoisingObjective):
    """The mean squared error of predicted noise; with a denoiser of ``learn_sigma``, also the variational bound.

    Sources: Ho et al. 2020, equation 14; Nichol & Dhariwal 2021, equation 16, ``L_simple + 0.001 L_vlb``.
    """

    def __init__(
        self, *, model: DiffusionModel, schedule: LinearBetas, label_dropout: float, vlb_weight: float
    ) -> None:
        parametrisation = Parametrisation(prediction="noise", betas=schedule)
        super().__init__(model=model, parametrisation=parametrisation, label_dropout=label_dropout)
        self.schedule = schedule
        self.vlb_weight = vlb_weight

    @classmethod
    def from_spec(cls, spec: DDPMSpec, context: BuildContext) -> "DDPM":
        schedule = LinearBetas(first=spec.beta_start, last=spec.beta_end, num_steps=spec.num_steps)
        parametrisation = Parametrisation(prediction="noise", betas=schedule)
        return cls(
            model=starting_model(spec.denoiser, context, parametrisation),
            schedule=schedule,
            label_dropout=spec.label_dropout,
            vlb_weight=spec.vlb_weight,
        )

    def forward(self, batch: Batch) -> StepOutput:
        """Noises raw latents after normalising them, and compares the noise.

        The loss ``variance`` is the bound times its weight. Monitors: the noise's error in each quarter of the steps.
        """
        latents = self.normalizer.normalize(batch.data)
        noise = batch.randomness.normal("noise", latents.shape[1:], latents.device)
        drawn = batch.randomness.integers("time", self.schedule.num_steps)
        steps = sent(drawn, latents.device)
        noisy = noised(self.schedule, latents, noise, steps)
        time = (steps / self.schedule.num_steps).to(latents.dtype)
        path_time = sent(self.schedule.path_times, latents.device)[steps]
        share = per_sample(sent(self.schedule.alphas_bar, latents.device)[steps], latents)
        on_path = noisy / (share.sqrt() + (1 - share).sqrt()).to(latents.dtype)
        predicted = self.predict(noisy, time, on_path, path_time, batch).float()
        losses = {}
        if self.denoiser.learn_sigma:
            predicted, fraction = predicted.chunk(2, dim=1)
            log_variance = learned_log_variance(self.schedule, steps, fraction)
            bound = variational_bound(self.schedule, steps, predicted.detach(), noise.float(), log_variance)
            losses["variance"] = self.vlb_weight * self.schedule.num_steps * bound.mean()
        errors = (predicted - noise.float()).square().flatten(1).mean(1)
        return StepOutput(
            losses={"noise": errors.mean(), **losses},
            batch=batch,
            latents=batch.data,
            time=time,
            prediction=predicted,
            target=noise,
            monitors=means_by_time(errors.detach(), drawn / self.schedule.num_steps, "noise"),
        )
