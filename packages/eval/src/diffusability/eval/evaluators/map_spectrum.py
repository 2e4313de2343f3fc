"""Spectra of whole maps."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
from diffusability.eval.evaluators.dct_spectrum import pool_to
from diffusability.eval.frames import as_frames
from diffusability.eval.map_spectrum_figure import draw_channel_spectra
from diffusability.eval.map_sums import MapSums, TemporalSums
from diffusability.eval.predictor_specs import MapSpectrumSpec
from diffusability.eval.predictors.bootstrap import bootstrap_spread
from diffusability.eval.predictors.spectral_energy import (
    is_high,
    radial_profile,
    spectral_slope,
)
from diffusability.eval.predictors.standardization import ChannelScaling
from diffusability.eval.sample_table import SampleTable

SMALLEST_SIDE = 4


class MapSpectrum(Evaluator):
    """DCTs of whole latents, of RGB pooled to their size, and of RGB at its own size.

    ``sec``: share of the latents' energy at ``u + v > rho (H + W - 2)`` (arXiv 2606.03578), lower is smoother;
    ``rgb_sec`` of pooled RGB. ``spectral_slope``, ``rgb_spectral_slope``: exponent of the mean amplitude against radial
    frequency, over the mean of channels. All of these are of channels at mean 0 and variance 1 over the set, as a
    denoiser sees them; ``sec_raw``, ``spectral_slope_raw`` and so on are of raw latents. Constant channels are left out
    of everything. Curves, of raw latents ``latent_radial_spectrum_curve``, ``rgb_pooled_radial_spectrum_curve``,
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
        latent = self._latents.update(as_frames(batch.latents))
        pooled = self._pooled.update(pool_to(as_frames(batch.images).double(), height, width))
        self._images.update(as_frames(batch.images))
        if batch.latents.ndim == 5:
            self._times.update(batch.latents)
            self._rgb_times.update(batch.images)
        high = is_high(height, width, self.spec.rho)
        columns: dict[str, Tensor] = {}
        for prefix, coefficients in (("", latent), ("rgb_", pooled)):
            by_sample = coefficients.view(count, -1, *coefficients.shape[1:])  # n t c h w
            energy = by_sample.square()
            columns |= {
                f"{prefix}high": energy[..., high].sum((1, 3)),
                f"{prefix}total": energy.sum((1, 3, 4)),
                f"{prefix}sum": by_sample[..., 0, 0].sum(1) * math.sqrt(height * width),
                f"{prefix}values": torch.full((count,), by_sample.shape[1] * height * width, dtype=torch.float64),
            }
        self._table.add(batch.indices, columns)

    def state(self) -> Any:
        return tuple(part.state() for part in self._parts())

    def merge(self, state: Any) -> None:
        for part, seen in zip(self._parts(), state, strict=True):
            part.merge(seen)

    def compute(self) -> list[EvalResult]:
        columns, count = self._table.columns(), len(self._table)
        scaling, rgb = (_scaling(columns, prefix) for prefix in ("", "rgb_"))
        results = []
        for prefix, scale in (("", scaling), ("rgb_", rgb)):
            for suffix in ("", "_raw"):
                concentration = _concentration(columns, prefix, scale, raw=bool(suffix))
                results.append(
                    EvalResult(
                        metric=f"{prefix}sec{suffix}",
                        value=concentration(torch.arange(count)),
                        higher_is_better=None if prefix or suffix else False,
                        num_samples=count,
                        spread=bootstrap_spread(count, concentration, 200),
                        spec={
                            "rho": self.spec.rho,
                            "channels": "raw" if suffix else "standardised",
                            "spread_over": "200 bootstrap samples",
                        },
                        note=scale.note,
                    )
                )
        spectra: tuple[tuple[str, MapSums, ChannelScaling | None], ...] = (
            ("latent", self._latents, scaling),
            ("rgb_pooled", self._pooled, rgb),
            ("rgb", self._images, None),
        )
        for name, sums, of in spectra:
            amplitude = sums.amplitude() if of is None else sums.amplitude()[of.varying]
            frequencies, profile = radial_profile(amplitude)
            results.append(_curve_result(f"{name}_radial_spectrum_curve", frequencies, _relative(profile), count))
            metric = {"latent": "spectral_slope", "rgb_pooled": "rgb_spectral_slope"}.get(name)
            if metric is not None and of is not None:
                standard = profile / of.std[of.varying][:, None]
                for suffix, rows in (("", standard), ("_raw", profile)):
                    results.append(
                        EvalResult(
                            metric=f"{metric}{suffix}",
                            value=spectral_slope(frequencies, rows.mean(0)),
                            num_samples=count,
                            spec={"channels": "raw" if suffix else "standardised"},
                            note=of.note,
                        )
                    )
        if self._times.num_clips:
            for name, times, chosen in (
                ("temporal", self._times, scaling.varying),
                ("rgb_temporal", self._rgb_times, rgb.varying),
            ):
                ratio = times.log_ratio(chosen)
                places = [place / (2 * len(ratio)) for place in range(len(ratio))]
                results.append(
                    _curve_result(f"{name}_spectrum_curve", places, ratio[None], count, "cycles per (latent) frame")
                )
        return results

    def draw(self, directory: Path) -> list[Path]:
        """``map-spectrum``: a heat map of the radial spectrum of each channel."""
        varying = _scaling(self._table.columns(), "").varying
        frequencies, profile = radial_profile(self._latents.amplitude()[varying])
        return draw_channel_spectra(directory, frequencies, _relative(profile))


def _scaling(columns: Mapping[str, Tensor], prefix: str) -> ChannelScaling:
    """The scaling of channels; by Parseval from the coefficients' energy and DC."""
    values = columns[f"{prefix}values"]
    number = values.sum()
    return ChannelScaling.from_moments(
        columns[f"{prefix}sum"].sum(0) / number, columns[f"{prefix}total"].sum(0) / number, "map-spectrum"
    )


def _concentration(
    columns: Mapping[str, Tensor], prefix: str, scale: ChannelScaling, raw: bool
) -> Callable[[Tensor], float]:
    """The energy concentration of chosen samples."""
    high, total = (columns[f"{prefix}{name}"][:, scale.varying] for name in ("high", "total"))
    if not raw:
        mean, variance = scale.mean[scale.varying], scale.std[scale.varying].square()
        # The energy about the mean: a constant has all of its energy at DC.
        sums, number = columns[f"{prefix}sum"][:, scale.varying], columns[f"{prefix}values"][:, None]
        total = (total - 2 * mean * sums + number * mean.square()) / variance
        high = high / variance
    high, total = high.sum(1), total.sum(1)
    return lambda chosen: (high[chosen].sum() / total[chosen].sum()).item()


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
