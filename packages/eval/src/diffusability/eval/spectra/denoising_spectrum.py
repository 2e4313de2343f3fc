"""What a trained denoiser knows of each frequency at each noise level."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.parametrisation import data_of
from diffusability.core.errors import DataError
from diffusability.core.numerics.axes import per_sample
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.eval.specs.spectra import DenoisingSpectrumSpec
from diffusability.eval.spectra.block_spectrum import coefficients, fitting_block_size
from diffusability.eval.spectra.denoiser_inputs import denoiser_inputs
from diffusability.eval.spectra.denoising_error import half_resolved_time, relative_error, wiener_error
from diffusability.eval.streaming.jackknife import NUM_GROUPS, spread_of, without_each_group_of_all


class DenoisingSpectrum(Evaluator):
    """Relative error of a denoiser's estimate of the data, by block DCT frequency, channel and time.

    Normalised latents of real images are noised to each time, the model estimates the data from them, and the squared
    error of each coefficient is divided by the coefficient's mean square. Curves ``denoising_error_curve`` (mean over
    channels and frequencies, against time) and ``resolved_time_curve`` (the time until which a frequency is half
    resolved, mean and standard deviation over channels, against the zigzag index); ``denoising_error`` and
    ``denoising_error_high`` (means over times, of all frequencies and of those at ``u + v >= block_size``), and
    ``denoising_excess`` (mean ratio to the error of the best linear denoiser of the same spectrum: 1 is as good, and
    less is possible since latents are not Gaussian). Class-conditional models get the images' labels, or "no class".
    """

    def __init__(self, spec: DenoisingSpectrumSpec) -> None:
        self.spec = spec
        self.block_size = 0
        self._error: Tensor = torch.zeros(())
        self._energy: Tensor = torch.zeros(())
        self._num_blocks = 0
        #: By group: summed squared errors and data, and the number of blocks.
        self._groups: dict[int, tuple[Tensor, Tensor, int]] = {}
        self._indices: list[int] = []

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch.

        Raises:
            DataError: latents are smaller than 4x4, or their shape is not the model's.
        """
        model, latents, labels = denoiser_inputs(batch)
        size = fitting_block_size(latents.shape[-2], latents.shape[-1], self.spec.block_size)
        velocities = model.velocity_model()
        errors = []
        for index, time in enumerate(self.spec.times):
            randomness = BatchRandomness(seed=self.spec.seed, step=index, positions=batch.indices)
            noise = randomness.normal("denoising-spectrum", latents.shape[1:], latents.device)
            times = torch.full((len(latents),), time, dtype=torch.float64, device=latents.device)
            t = per_sample(times.to(latents.dtype), latents)
            noisy = (1 - t) * latents + t * noise
            estimate = data_of(velocities(noisy, times, labels), noisy, times)
            errors.append(_sums(coefficients(estimate - latents, size), len(latents)))
        clean = coefficients(latents, size)
        self.block_size = size
        error, energy = torch.stack(errors), _sums(clean, len(latents))
        self._error = self._error + error.sum(1)
        self._energy = self._energy + energy.sum(0)
        self._num_blocks += clean.shape[0] * clean.shape[2]
        for place, index in enumerate(batch.indices):
            blocks = clean.shape[0] * clean.shape[2] // len(latents)
            self._add_to_group(index % NUM_GROUPS, (error[:, place], energy[place], blocks))
        self._indices += batch.indices

    def _add_to_group(self, group: int, part: tuple[Tensor, Tensor, int]) -> None:
        zero = torch.zeros(())
        error, energy, blocks = self._groups.get(group, (zero, zero, 0))
        self._groups[group] = (error + part[0], energy + part[1], blocks + part[2])

    def state(self) -> dict[str, Any]:
        return {
            "block_size": self.block_size,
            "error": self._error,
            "energy": self._energy,
            "num_blocks": self._num_blocks,
            "groups": self._groups,
            "indices": self._indices,
        }

    def merge(self, state: dict[str, Any]) -> None:
        self.block_size = max(self.block_size, state["block_size"])
        self._error = self._error + state["error"]
        self._energy = self._energy + state["energy"]
        self._num_blocks += state["num_blocks"]
        for group, part in state["groups"].items():
            self._add_to_group(group, part)
        self._indices += state["indices"]

    def _measured(
        self, left_out: int | None = None
    ) -> tuple[Float[Tensor, "t c k"], Float[Tensor, "c k"], Float[Tensor, " t"]]:
        """Relative error, mean square of the data, and times; of all samples or of all but those of a group."""
        if not self._indices:
            raise DataError("no images were evaluated: a denoising spectrum needs at least one")
        zero = torch.zeros(())
        error, energy, blocks = (zero, zero, 0) if left_out is None else self._groups[left_out]
        count = self._num_blocks - blocks
        energy = (self._energy - energy) / count
        times = torch.tensor(self.spec.times, dtype=torch.float64)
        return relative_error((self._error - error) / count, energy), energy, times

    def _values(self, left_out: int | None = None) -> dict[str, float]:
        """The numbers, by metric."""
        relative, energy, times = self._measured(left_out)
        return {
            "denoising_error": relative.mean().item(),
            "denoising_error_high": relative[:, :, _is_high(self.block_size)].mean().item(),
            "denoising_excess": (relative / wiener_error(energy, times)).mean().item(),
        }

    def compute(self) -> list[EvalResult]:
        relative, _, times = self._measured()
        resolved = half_resolved_time(relative, times)
        spec = {"block_size": self.block_size, "times": list(self.spec.times)}
        time_curve = Curve(
            x=times.tolist(),
            y=relative.mean((1, 2)).tolist(),
            x_label="time, from data (0) to noise (1)",
            y_label="relative error of the data",
        )
        resolved_curve = Curve(
            x=[float(index) for index in range(resolved.shape[1])],
            y=resolved.mean(0).tolist(),
            y_std=resolved.std(0, correction=0).tolist(),
            x_label="zigzag index of the DCT frequency",
            y_label="time until which it is half resolved",
        )
        values, left_out = without_each_group_of_all(self._indices, self._values)
        curves = {"denoising_error_curve": time_curve, "resolved_time_curve": resolved_curve}
        return [
            *(
                EvalResult(metric=name, curve=curve, num_samples=len(self._indices), spec=spec)
                for name, curve in curves.items()
            ),
            *(
                EvalResult(
                    metric=name,
                    value=value,
                    higher_is_better=False,
                    num_samples=len(self._indices),
                    spread=spread_of(left_out[name], value),
                    spec={**spec, "spread_over": f"jackknife of {NUM_GROUPS} groups of images"},
                    values=left_out[name],
                )
                for name, value in values.items()
            ),
        ]

    def draw(self, directory: Path) -> list[Path]:
        from diffusability.eval.figures.denoising_figures import draw_channels, draw_denoising_spectrum

        relative, energy, times = self._measured()
        wiener = wiener_error(energy, times)
        return [
            *draw_denoising_spectrum(directory, times, relative, wiener, self.block_size),
            *draw_channels(directory, times, relative),
        ]


def _sums(values: Float[Tensor, "n c blocks k"], num_samples: int) -> Float[Tensor, "b c k"]:
    """Summed squares of each sample; the frames of a clip make one."""
    sums = values.square().sum(2)
    return sums.reshape(num_samples, -1, *sums.shape[1:]).sum(1).cpu()


def _is_high(block_size: int) -> Tensor:
    """Which zigzag indices lie at ``u + v >= block_size``."""
    return torch.arange(block_size**2) >= block_size * (block_size + 1) // 2
