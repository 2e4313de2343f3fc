"""Spectra of whole maps."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
from diffusability.core.errors import DataError
from diffusability.core.numerics.axes import as_frames
from diffusability.eval.predictors.standardization import ChannelScaling
from diffusability.eval.specs.spectra import MapSpectrumSpec
from diffusability.eval.spectra.dct_spectrum import pool_to, repeated
from diffusability.eval.spectra.map_sums import MapSums, TemporalSums
from diffusability.eval.spectra.spectral_energy import is_high, radial_profile, spectral_slope
from diffusability.eval.streaming.jackknife import NUM_GROUPS, spread_of, without_each_group_of_all
from diffusability.eval.streaming.sample_table import SampleTable

SMALLEST_SIDE = 4
#: All samples.
EVERY = slice(None)


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
        latent = self._latents.update(latents, repeated(groups, len(latents)))
        pooled = self._pooled.update(pool_to(images.double(), height, width), repeated(groups, len(images)))
        self._images.update(images)
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
        for prefix, sums, scale in (("", self._latents, scaling), ("rgb_", self._pooled, rgb)):
            numbers, left_out = without_each_group_of_all(
                self._table.indices, partial(self._numbers, columns, prefix, sums)
            )
            for name, value in numbers.items():
                raw = name.endswith("_raw")
                is_share = name.startswith("sec")
                results.append(
                    EvalResult(
                        metric=prefix + name,
                        value=value,
                        higher_is_better=False if prefix + name == "sec" else None,
                        num_samples=count,
                        spread=spread_of(left_out[name], value),
                        spec={
                            **({"rho": self.spec.rho} if is_share else {}),
                            "channels": "raw" if raw else "standardised",
                            "spread_over": f"jackknife of {NUM_GROUPS} groups of images",
                        },
                        note=scale.note,
                        values=left_out[name],
                    )
                )
        spectra: tuple[tuple[str, MapSums, ChannelScaling | None], ...] = (
            ("latent", self._latents, scaling),
            ("rgb_pooled", self._pooled, rgb),
            ("rgb", self._images, None),
        )
        for name, sums, channels in spectra:
            amplitude = sums.amplitude() if channels is None else sums.amplitude()[channels.varying]
            frequencies, profile = radial_profile(amplitude)
            results.append(_curve_result(f"{name}_radial_spectrum_curve", frequencies, _relative(profile), count))
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

    def _numbers(
        self, columns: Mapping[str, Tensor], prefix: str, sums: MapSums, left_out: int | None
    ) -> dict[str, float]:
        """The numbers of all samples but those of a group, whose scaling is made without it too."""
        chosen = torch.tensor(self._table.indices) % NUM_GROUPS != (-1 if left_out is None else left_out)
        scale = _scaling(columns, prefix, chosen)
        frequencies, profile = radial_profile(sums.amplitude(left_out)[scale.varying])
        standard = profile / scale.std[scale.varying][:, None]
        return {
            "sec": _concentration(columns, prefix, scale, chosen, raw=False),
            "sec_raw": _concentration(columns, prefix, scale, chosen, raw=True),
            "spectral_slope": spectral_slope(frequencies, standard.mean(0)),
            "spectral_slope_raw": spectral_slope(frequencies, profile.mean(0)),
        }

    def draw(self, directory: Path) -> list[Path]:
        """``map-spectrum``: a heat map of the radial spectrum of each channel."""
        from diffusability.eval.figures.map_spectrum_figure import draw_channel_spectra

        varying = _scaling(self._table.columns(), "").varying
        frequencies, profile = radial_profile(self._latents.amplitude()[varying])
        return draw_channel_spectra(directory, frequencies, _relative(profile))


def _scaling(columns: Mapping[str, Tensor], prefix: str, chosen: Tensor | slice = EVERY) -> ChannelScaling:
    """The scaling of channels over chosen samples; by Parseval from the coefficients' energy and DC."""
    sums, total, number = (columns[f"{prefix}{name}"][chosen].sum(0) for name in ("sum", "total", "values"))
    return ChannelScaling.from_moments(sums / number, total / number, "map-spectrum")


def _concentration(
    columns: Mapping[str, Tensor], prefix: str, scale: ChannelScaling, chosen: Tensor, raw: bool
) -> float:
    """The energy concentration of chosen samples."""
    high, total, sums = (columns[f"{prefix}{name}"][chosen].sum(0)[scale.varying] for name in ("high", "total", "sum"))
    if not raw:
        mean, variance = scale.mean[scale.varying], scale.std[scale.varying].square()
        # The energy about the mean: a constant has all of its energy at DC.
        total = (total - 2 * mean * sums + columns[f"{prefix}values"][chosen].sum() * mean.square()) / variance
        high = high / variance
    return (high.sum() / total.sum()).item()


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
