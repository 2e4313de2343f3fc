"""Spectra of whole maps."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
from diffusability.eval.evaluators.dct_spectrum import pool_to, repeated
from diffusability.eval.frames import as_frames
from diffusability.eval.jackknife import NUM_GROUPS, spread_of, without_each_group, without_each_part
from diffusability.eval.map_spectrum_figure import draw_channel_spectra
from diffusability.eval.map_sums import MapSums, TemporalSums
from diffusability.eval.predictor_specs import MapSpectrumSpec
from diffusability.eval.predictors.bootstrap import bootstrap_spread
from diffusability.eval.predictors.spectral_energy import (
    radial_profile,
    spectral_energy_concentration,
    spectral_slope,
)
from diffusability.eval.sample_table import SampleTable

SMALLEST_SIDE = 4


class MapSpectrum(Evaluator):
    """DCTs of whole latents, of RGB pooled to their size, and of RGB at its own size.

    ``sec``: share of the latents' energy at ``u + v > rho (H + W - 2)`` (arXiv 2606.03578), lower is smoother;
    ``rgb_sec`` of pooled RGB. ``spectral_slope``, ``rgb_spectral_slope``: exponent of the mean amplitude against radial
    frequency, over the mean of channels. Curves ``latent_radial_spectrum_curve``, ``rgb_pooled_radial_spectrum_curve``,
    ``rgb_radial_spectrum_curve``: natural logarithm of amplitude over that of DC, mean and standard deviation over
    channels. Of clips, each frame is a map, and ``temporal_spectrum_curve`` and ``rgb_temporal_spectrum_curve`` are the
    same along time.
    """

    needs = MapSpectrumSpec.needs

    def __init__(self, spec: MapSpectrumSpec) -> None:
        self.spec = spec
        self._latents = MapSums("latents")
        self._pooled = MapSums("images pooled to the latents' size")
        self._images = MapSums("images")
        self._times = TemporalSums()
        self._rgb_times = TemporalSums()
        self._table = SampleTable("map-spectrum")

    def _parts(self) -> tuple[MapSums | TemporalSums | SampleTable, ...]:
        return (self._latents, self._pooled, self._images, self._times, self._rgb_times, self._table)

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch.

        Raises:
            DataError: latents are smaller than 4x4, or shapes differ from earlier ones.
        """
        assert batch.images is not None
        assert batch.latents is not None
        height, width = batch.latents.shape[-2:]
        if min(height, width) < SMALLEST_SIDE:
            raise DataError(f"latents of {height}x{width} are too small for a spectrum; expected at least 4x4")
        count = len(batch.latents)
        groups = [index % NUM_GROUPS for index in batch.indices]
        latents, images = as_frames(batch.latents), as_frames(batch.images)
        energy = self._latents.update(latents, repeated(groups, len(latents)))
        pooled = self._pooled.update(pool_to(images.double(), height, width), repeated(groups, len(images)))
        self._images.update(images)
        if batch.latents.ndim == 5:
            self._times.update(batch.latents)
            self._rgb_times.update(batch.images)
        self._table.add(
            batch.indices,
            {
                "energy": energy.view(count, -1, height, width).sum(1),
                "rgb_energy": pooled.view(count, -1, height, width).sum(1),
            },
        )

    def state(self) -> Any:
        return tuple(part.state() for part in self._parts())

    def merge(self, state: Any) -> None:
        for part, seen in zip(self._parts(), state, strict=True):
            part.merge(seen)

    def compute(self) -> list[EvalResult]:
        columns, count = self._table.columns(), len(self._table)
        results = []
        for prefix, energy in (("", columns["energy"]), ("rgb_", columns["rgb_energy"])):

            def concentration(chosen: Tensor, energy: Tensor = energy) -> float:
                return spectral_energy_concentration(energy[chosen].sum(0), self.spec.rho)

            results.append(
                EvalResult(
                    metric=f"{prefix}sec",
                    value=concentration(torch.arange(count)),
                    higher_is_better=None if prefix else False,
                    num_samples=count,
                    spread=bootstrap_spread(count, concentration, 200),
                    spec={"rho": self.spec.rho, "spread_over": "200 bootstrap samples"},
                    values=without_each_part(self._table.indices, concentration),
                )
            )
        for name, sums in (("latent", self._latents), ("rgb_pooled", self._pooled), ("rgb", self._images)):
            frequencies, profile = radial_profile(sums.amplitude())
            results.append(_curve_result(f"{name}_radial_spectrum_curve", frequencies, _relative(profile), count))
            metric = {"latent": "spectral_slope", "rgb_pooled": "rgb_spectral_slope"}.get(name)
            if metric is not None:
                values = without_each_group(self._table.indices, partial(_slope, sums))
                slope = spectral_slope(frequencies, profile.mean(0))
                results.append(
                    EvalResult(
                        metric=metric,
                        value=slope,
                        num_samples=count,
                        spread=spread_of(values, slope),
                        spec={"spread_over": f"jackknife of {NUM_GROUPS} groups of images"},
                        values=values,
                    )
                )
        if self._times.num_clips:
            for name, times in (("temporal", self._times), ("rgb_temporal", self._rgb_times)):
                ratio = times.log_ratio()
                places = [place / (2 * len(ratio)) for place in range(len(ratio))]
                results.append(
                    _curve_result(f"{name}_spectrum_curve", places, ratio[None], count, "cycles per (latent) frame")
                )
        return results

    def draw(self, directory: Path) -> list[Path]:
        """``map-spectrum``: a heat map of the radial spectrum of each channel."""
        frequencies, profile = radial_profile(self._latents.amplitude())
        return draw_channel_spectra(directory, frequencies, _relative(profile))


def _slope(sums: MapSums, left_out: int) -> float:
    frequencies, profile = radial_profile(sums.amplitude(left_out))
    return spectral_slope(frequencies, profile.mean(0))


def _relative(profile: Float[Tensor, "c k"]) -> Float[Tensor, "c k"]:
    """Natural logarithm of amplitudes over that of DC."""
    floor = 1e-12 * profile.amax(1, keepdim=True).clamp_min(1e-288)
    log = torch.maximum(profile, floor).log()
    return log - log[:, :1]


def _curve_result(
    metric: str, x: list[float], log: Float[Tensor, "c k"], count: int, label: str = "cycles per (latent) pixel"
) -> EvalResult:
    curve = Curve(
        x=x,
        y=log.mean(0).tolist(),
        y_std=log.std(0, correction=0).tolist() if len(log) > 1 else None,
        x_label=label,
        y_label="log amplitude relative to DC",
    )
    return EvalResult(metric=metric, curve=curve, num_samples=count)
