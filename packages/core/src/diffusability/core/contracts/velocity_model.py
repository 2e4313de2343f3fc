"""A denoiser of any parametrisation as a model of velocities: the one thing that samplers work with."""

import torch

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.parametrisation import Parametrisation, data_of, velocity_of
from diffusability.core.errors import SpecError
from diffusability.core.numerics.axes import per_sample
from diffusability.core.shapes import Labels, Latents, Predictions, Times

#: Estimates that a denoiser is conditioned on are kept in this range; normalised latents have unit variance.
_ESTIMATE_BOUND = 10.0


def shifted_time(time: float, shift: float) -> float:
    """``s t / (1 + (s - 1) t)``: more of [0, 1] near noise for s > 1 (Esser et al. 2024, equation 23)."""
    return shift * time / (1 + (shift - 1) * time)


def data_estimate(velocity: Latents, latents: Latents, time: Times) -> Latents:
    """The estimate of the data that self-conditioning hands on: in training and in sampling the same."""
    return data_of(velocity, latents, time).clamp(-_ESTIMATE_BOUND, _ESTIMATE_BOUND)


class VelocityModel(Denoiser):
    """Velocities on the straight path ``z_t = (1 - t) z + t eps``, made of what the denoiser predicts.

    A DDPM's denoiser is asked at the step of equal signal-to-noise ratio, with latents scaled to unit variance: a
    change of coordinates, not an approximation.

    Attributes:
        denoiser: what it wraps; its weights are shared.
        parametrisation: how that was trained.
        normalizer: what scales its latents; None if unknown.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        parametrisation: Parametrisation | None = None,
        normalizer: LatentNormalizer | None = None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.parametrisation = parametrisation or Parametrisation()
        self.normalizer = normalizer
        self.num_classes = denoiser.num_classes
        self.self_conditioning = denoiser.self_conditioning
        self.training = denoiser.training

    @classmethod
    def from_denoiser(cls, denoiser: Denoiser) -> "VelocityModel":
        """The denoiser itself if it is such a model; one that predicts velocities otherwise."""
        return denoiser if isinstance(denoiser, VelocityModel) else cls(denoiser)

    def forward(
        self, latents: Latents, time: Times, labels: Labels | None, previous_estimate: Latents | None = None
    ) -> Predictions:
        """Velocities at times in (0, 1], in the latents' dtype; of a noise prediction, at times below 1.

        Raises:
            ValueError: the denoiser's output does not fit the latents.
        """
        return self.with_variance(latents, time, labels, previous_estimate)[0]

    def with_variance(
        self, latents: Latents, time: Times, labels: Labels | None, previous_estimate: Latents | None = None
    ) -> tuple[Latents, Latents | None]:
        """Velocities, and what a denoiser of ``learn_sigma`` says of the variance: from -1, lower, to 1, upper bound.

        Raises:
            ValueError: the denoiser's output does not fit the latents.
        """
        betas = self.parametrisation.betas
        seen, seen_time = latents, time.to(latents.dtype)
        if betas is not None:
            t = per_sample(time.to(latents.dtype), latents)
            seen = latents / ((1 - t).square() + t.square()).sqrt()
            seen_time = (betas.step_at(time.double()) / betas.num_steps).to(latents.dtype)
        extra = () if previous_estimate is None else (previous_estimate,)
        predicted = self.denoiser(seen, seen_time, labels, *extra).to(latents.dtype)
        fraction = None
        if self.denoiser.learn_sigma:
            predicted, fraction = predicted.chunk(2, dim=1)
        if predicted.shape != latents.shape:
            raise ValueError(f"the denoiser made {tuple(predicted.shape)!r} of latents {tuple(latents.shape)!r}")
        return velocity_of(self.parametrisation.prediction, predicted, latents, time), fraction

    def start(self, noise: Latents) -> Latents:
        """Latents at the first of ``times``, of standard normal noise."""
        return noise * self.parametrisation.start_scale

    def times(self, steps: int, shift: float = 1.0) -> list[float]:
        """``steps + 1`` falling times on the straight path, from where sampling starts to 0.

        Equal steps of time; of a DDPM, training steps as equally spaced as whole numbers allow, from the last to 0. A
        ``shift`` moves them towards noise (above 1) or data (below).

        Raises:
            SpecError: a DDPM has not as many training steps.
        """
        fractions = [shifted_time(1 - step / max(steps, 1), shift) for step in range(steps)]
        betas = self.parametrisation.betas
        if betas is None:
            return [self.parametrisation.last_time * fraction for fraction in fractions] + [0.0]
        spaced = torch.linspace(1, 0, steps, dtype=torch.float64).tolist() if steps > 1 else [1.0]
        chosen = [round((betas.num_steps - 1) * shifted_time(fraction, shift)) for fraction in spaced]
        if len(set(chosen)) < steps:
            raise SpecError(
                f"{steps} sampling steps at time_shift {shift!r} are not {steps} different ones of the"
                f" {betas.num_steps} training steps of this model; expected fewer steps or a shift nearer to 1"
            )
        return [*betas.path_times[chosen].tolist(), 0.0]
