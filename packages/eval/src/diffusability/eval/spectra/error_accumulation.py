"""How the errors of single sampling steps add up along the sampler."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.velocity_model import VelocityModel, data_estimate
from diffusability.core.errors import DataError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.shapes import Labels, Latents
from diffusability.eval.specs.spectra import ErrorAccumulationSpec
from diffusability.eval.spectra.block_spectrum import coefficients, fitting_block_size
from diffusability.eval.spectra.coefficient_moments import CoefficientMoments, gaussian_divergence
from diffusability.eval.spectra.denoiser_inputs import denoiser_inputs
from diffusability.eval.streaming.jackknife import FEW_GROUPS, spread_of, without_each_group_of_all


class ErrorAccumulation(Evaluator):
    """Modular and cumulative errors of Euler's method, after Li & van der Schaar 2024.

    In "On Error Propagation of Diffusion Models", the cumulative error of a step is the divergence of what the sampler
    has made until then from the noised data at that time, and the modular error that of the step's own module. Here,
    with q_t the distribution of noised real latents:

    * cumulative: ``KL(p_t' || q_t')``, p_t' what all steps from noise down to t' have made;
    * modular: ``KL(m_t' || q_t')``, m_t' what the last of them alone makes of q_t, that is of right input.

    A step of the ODE has no density of its own, so that both are divergences of distributions, of Gaussians with the
    same mean and variance of every block DCT coefficient, in nats a coefficient. Curves ``cumulative_error_curve`` and
    ``modular_error_curve`` against the time after the step; ``cumulative_error`` (at t = 0); and
    ``error_amplification``, ``sqrt(cumulative) / sum sqrt(modular)`` at t = 0. Divergences are squares of relative
    deviations: single errors that all point in one direction and neither grow nor shrink on the way would give 1, more
    means that they grow. Two finite sets of one distribution differ by about 2 / n nats for n coefficients each, which
    results state as ``floor_nats``; it is taken off for the amplification. Sampling is unguided; class-conditional
    models get the images' labels, or "no class".
    """

    def __init__(self, spec: ErrorAccumulationSpec) -> None:
        self.spec = spec
        self.block_size = 0
        self._times: list[float] = []
        self._sampled, self._stepped, self._true = (CoefficientMoments() for _ in range(3))
        #: The same of each group of samples.
        self._groups: dict[int, tuple[CoefficientMoments, CoefficientMoments, CoefficientMoments]] = {}
        self._indices: list[int] = []

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch.

        Raises:
            DataError: latents are smaller than 4x4, or their shape is not the model's.
        """
        model, latents, labels = denoiser_inputs(batch)
        randomness = BatchRandomness(seed=self.spec.seed, step=0, positions=batch.indices)
        noise = randomness.normal("error-accumulation", latents.shape[1:], latents.device)
        self.block_size = fitting_block_size(latents.shape[-2], latents.shape[-1], self.spec.block_size)
        self._times = model.velocity_model().times(self.spec.steps, self.spec.time_shift)
        self._follow(model, latents, noise, labels, [index % FEW_GROUPS for index in batch.indices])
        self._indices += batch.indices

    def _follow(
        self,
        model: DiffusionModel,
        latents: Latents,
        noise: Latents,
        labels: Labels | None,
        groups: Sequence[int],
    ) -> None:
        velocities = model.velocity_model()
        made, estimate = velocities.start(noise), None  # the same noise: what differs is what the steps do
        sampled, stepped, true = [], [], []
        for time, next_time in pairwise(self._times):
            velocity = _velocity(velocities, made, time, labels, estimate)
            if velocities.self_conditioning:
                estimate = data_estimate(velocity, made, _same_time(made, time))
            made = made + (next_time - time) * velocity
            right = (1 - time) * latents + time * noise
            right = right + (next_time - time) * _velocity(velocities, right, time, labels, None)
            sampled.append(coefficients(made, self.block_size))
            stepped.append(coefficients(right, self.block_size))
            true.append(coefficients((1 - next_time) * latents + next_time * noise, self.block_size))
        frames = len(true[0]) // len(groups)
        numbers = torch.tensor(groups, device=latents.device).repeat_interleave(frames)
        for place, steps in enumerate((sampled, stepped, true)):
            (self._sampled, self._stepped, self._true)[place].update(steps)
            for group in sorted(set(groups)):
                self._group(group)[place].update([step[numbers == group] for step in steps])

    def _group(self, group: int) -> tuple[CoefficientMoments, CoefficientMoments, CoefficientMoments]:
        return self._groups.setdefault(group, (CoefficientMoments(), CoefficientMoments(), CoefficientMoments()))

    def state(self) -> dict[str, Any]:
        return {
            "block_size": self.block_size,
            "times": self._times,
            "moments": (self._sampled, self._stepped, self._true),
            "groups": self._groups,
            "indices": self._indices,
        }

    def merge(self, state: dict[str, Any]) -> None:
        self.block_size = max(self.block_size, state["block_size"])
        self._times = self._times or state["times"]
        for own, other in zip((self._sampled, self._stepped, self._true), state["moments"], strict=True):
            own.merge(other)
        for group, moments in state["groups"].items():
            for own, other in zip(self._group(group), moments, strict=True):
                own.merge(other)
        self._indices += state["indices"]

    def _errors(self, left_out: int | None = None) -> tuple[Float[Tensor, "steps c k"], Float[Tensor, "steps c k"]]:
        """Cumulative and modular errors, in nats; of all samples or of all but those of a group."""
        if not self._indices:
            raise DataError("no images were evaluated: error accumulation needs at least one")
        sampled, stepped, exact = self._sampled, self._stepped, self._true
        if left_out is not None:
            parts = zip((sampled, stepped, exact), self._group(left_out), strict=True)
            sampled, stepped, exact = (whole.without(part) for whole, part in parts)
        true = exact.mean(), exact.variance()
        return (
            gaussian_divergence(sampled.mean(), sampled.variance(), *true),
            gaussian_divergence(stepped.mean(), stepped.variance(), *true),
        )

    @property
    def _floor(self) -> float:
        return 2 / self._true.count

    def _values(self, left_out: int | None = None) -> dict[str, float]:
        """The numbers, by metric."""
        cumulative, modular = (errors.mean((1, 2)) for errors in self._errors(left_out))
        removed = 0 if left_out is None else self._group(left_out)[2].count
        end, added = cumulative[-1].item(), modular.sqrt().sum().item()
        grown = max(0.0, end - 2 / (self._true.count - removed)) ** 0.5
        return {"cumulative_error": end, "error_amplification": grown / added if added > 0 else 0.0}

    def compute(self) -> list[EvalResult]:
        cumulative, modular = (errors.mean((1, 2)) for errors in self._errors())
        spec: dict[str, Any] = {
            "steps": self.spec.steps,
            "time_shift": self.spec.time_shift,
            "block_size": self.block_size,
        }
        spec |= {"floor_nats": self._floor}
        curves = {"cumulative_error_curve": cumulative, "modular_error_curve": modular}
        values, left_out = without_each_group_of_all(self._indices, self._values, FEW_GROUPS)
        return [
            *(
                EvalResult(
                    metric=name,
                    curve=Curve(
                        x=self._times[1:],
                        y=errors.tolist(),
                        x_label="time after the step, from data (0) to noise (1)",
                        y_label="divergence from noised data, nats a coefficient",
                    ),
                    unit="nats",
                    num_samples=len(self._indices),
                    spec=spec,
                )
                for name, errors in curves.items()
            ),
            *(
                EvalResult(
                    metric=name,
                    value=value,
                    unit="nats" if name == "cumulative_error" else "",
                    higher_is_better=False,
                    num_samples=len(self._indices),
                    spread=spread_of(left_out[name], value),
                    spec={**spec, "spread_over": f"jackknife of {FEW_GROUPS} groups of images"},
                    values=left_out[name],
                )
                for name, value in values.items()
            ),
        ]

    def draw(self, directory: Path) -> list[Path]:
        from diffusability.eval.figures.accumulation_figure import draw_accumulation

        cumulative, modular = self._errors()
        ratio = self._sampled.variance()[-1] / self._true.variance()[-1].clamp_min(1e-12)
        return draw_accumulation(
            directory, self._times[1:], cumulative.mean(1), modular.mean(1), ratio, self._floor, self.block_size
        )


def _same_time(latents: Latents, time: float) -> Float[Tensor, " b"]:
    return torch.full((len(latents),), time, dtype=torch.float64, device=latents.device)


def _velocity(
    model: VelocityModel, latents: Latents, time: float, labels: Labels | None, estimate: Latents | None
) -> Latents:
    velocity: Latents = model(latents, _same_time(latents, time), labels, estimate)
    return velocity
