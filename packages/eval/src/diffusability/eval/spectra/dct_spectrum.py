"""Spectra of latents next to those of images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
from diffusability.core.errors import DataError
from diffusability.core.numerics.axes import as_frames
from diffusability.core.numerics.resampling import downsample
from diffusability.eval.specs.spectra import DCTSpectrumSpec
from diffusability.eval.spectra.block_spectrum import BlockSpectrum, fitting_block_size
from diffusability.eval.spectra.spectrum import high_frequency_share, log_amplitude_ratio, spectral_gap
from diffusability.eval.streaming.jackknife import NUM_GROUPS, spread_of, without_each_group

#: Spectra of latents, of pooled and of full images, if any, and the places of the samples that they are of.
Seen = tuple[tuple[BlockSpectrum, BlockSpectrum, BlockSpectrum] | None, list[int]]


def pool_to(images: Float[Tensor, "n c h w"], height: int, width: int) -> Float[Tensor, "n c h2 w2"]:
    """Average-pools images to a latent's size.

    Raises:
        DataError: the sides are not the same whole multiple of the latent's.
    """
    rows, columns = images.shape[-2:]
    if rows % height or columns % width or rows // height != columns // width:
        raise DataError(
            f"images of {rows}x{columns} cannot be pooled to latents of {height}x{width};"
            " expected both sides to be one whole multiple"
        )
    return downsample(images, rows // height, "mean")


def spectrum_curve(log_amplitude: Float[Tensor, "c k"]) -> Curve:
    """Mean and standard deviation over channels against the zigzag index."""
    return Curve(
        x=[float(index) for index in range(log_amplitude.shape[1])],
        y=log_amplitude.mean(0).tolist(),
        y_std=log_amplitude.std(0, correction=0).tolist(),
        x_label="zigzag index of the DCT frequency",
        y_label="log amplitude relative to DC",
    )


class DCTSpectrum(Evaluator):
    """Block DCT spectra of the latents, of RGB average-pooled to their size, and of RGB at its own size.

    Curves ``latent_spectrum_curve``, ``rgb_pooled_spectrum_curve``, ``rgb_spectrum_curve`` (natural logarithm of mean
    amplitude over mean DC amplitude, zigzag order, mean and standard deviation over channels); ``high_frequency_share``
    and ``rgb_high_frequency_share`` (of latents and of pooled RGB); ``spectral_gap`` (of latents to pooled RGB, both
    less the means of their channels, as a denoiser sees them; the curves are of raw latents, and so is
    ``spectral_gap_raw``: an offset of the latents is DC).

    Maps are cropped to whole blocks; latents too small for a block take the largest power of two that fits, at least 4,
    for all three (``block_size`` in the results' spec). Channels that are constant over all samples are left out. Each
    frame of a clip is an image.
    """

    def __init__(self, spec: DCTSpectrumSpec) -> None:
        self.spec = spec
        self._spectra: tuple[BlockSpectrum, BlockSpectrum, BlockSpectrum] | None = None
        self._indices: list[int] = []

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch.

        Raises:
            DataError: latents are smaller than 4x4, or of another size than before, or the images' sides are not a
                multiple of theirs.
        """
        assert batch.images is not None
        assert batch.latents is not None
        images, latents = as_frames(batch.images), as_frames(batch.latents)
        height, width = latents.shape[-2:]
        size = fitting_block_size(height, width, self.spec.block_size)
        if self._spectra is None:
            names = ("latents", "images pooled to the latents' size", "images")
            self._spectra = (
                BlockSpectrum(names[0], size, keeps_dc=True),
                BlockSpectrum(names[1], size, keeps_dc=True),
                BlockSpectrum(names[2], size),
            )
        elif size != self._spectra[0].block_size:
            raise DataError(f"latents of {height}x{width} need blocks of {size}, earlier ones others: give one size")
        latent, pooled, full = self._spectra
        groups = [index % NUM_GROUPS for index in batch.indices]
        latent.update(latents, repeated(groups, len(latents)))
        pooled.update(pool_to(images.double(), height, width), repeated(groups, len(images)))
        full.update(images)
        self._indices += batch.indices

    def state(self) -> Seen:
        return self._spectra, self._indices

    def merge(self, state: Seen) -> None:
        """Adds what another rank has seen.

        Raises:
            DataError: its latents or images were of other sizes.
        """
        spectra, indices = state
        if spectra is None:
            return
        if self._spectra is None:
            self._spectra = spectra
        else:
            for own, other in zip(self._spectra, spectra, strict=True):
                own.merge(other)
        self._indices += indices

    def compute(self) -> list[EvalResult]:
        if self._spectra is None:
            raise DataError("no images were evaluated: a spectrum needs at least one")
        latent, pooled, _ = self._spectra
        spec = {"block_size": latent.block_size}
        curves = [log_amplitude_ratio(spectrum.amplitude()) for spectrum in self._spectra]
        names = ("latent_spectrum_curve", "rgb_pooled_spectrum_curve", "rgb_spectrum_curve")
        share_spec = {**spec, "high_from": latent.block_size}
        return [
            *(
                EvalResult(metric=name, curve=spectrum_curve(curve), num_samples=len(self._indices), spec=spec)
                for name, curve in zip(names, curves, strict=True)
            ),
            self._number(
                "high_frequency_share", lambda left_out: _share(latent, left_out), share_spec, latent.note(), False
            ),
            self._number("rgb_high_frequency_share", lambda left_out: _share(pooled, left_out), share_spec),
            self._number(
                "spectral_gap",
                lambda left_out: _gap(latent, pooled, left_out),
                {**spec, "channels": "standardised"},
                latent.note(),
            ),
            self._number(
                "spectral_gap_raw",
                lambda left_out: _gap(latent, pooled, left_out, raw=True),
                {**spec, "channels": "raw"},
                latent.note(),
            ),
        ]

    def _number(
        self,
        metric: str,
        statistic: Callable[[int | None], float],
        spec: Mapping[str, Any],
        note: str = "",
        higher_is_better: bool | None = None,
    ) -> EvalResult:
        """A number of all samples; ``statistic`` takes the group that is left out, or None."""
        value, values = statistic(None), without_each_group(self._indices, statistic)
        return EvalResult(
            metric=metric,
            value=value,
            higher_is_better=higher_is_better,
            num_samples=len(self._indices),
            spread=spread_of(values, value),
            spec={**spec, "spread_over": f"jackknife of {NUM_GROUPS} groups of images"},
            values=values,
            note=note,
        )

    def draw(self, directory: Path) -> list[Path]:
        from diffusability.eval.figures.spectrum_figure import draw_spectrum

        results = {result.metric: result for result in self.compute()}
        curves = [
            results[name].curve for name in ("latent_spectrum_curve", "rgb_pooled_spectrum_curve", "rgb_spectrum_curve")
        ]
        assert self._spectra is not None
        latents, pooled, full = (curve for curve in curves if curve is not None)
        return draw_spectrum(directory, latents, pooled, full, self._spectra[0].block_size)


def repeated(groups: Sequence[int], count: int) -> list[int]:
    """The group of each frame, of ``count`` frames in all: those of a clip are in its group."""
    return [group for group in groups for _ in range(count // len(groups))]


def _part(spectrum: BlockSpectrum, left_out: int | None) -> BlockSpectrum:
    return spectrum if left_out is None else spectrum.without(left_out)


def _share(spectrum: BlockSpectrum, left_out: int | None) -> float:
    part = _part(spectrum, left_out)
    return high_frequency_share(part.energy(), part.variance())


def _gap(latents: BlockSpectrum, rgb: BlockSpectrum, left_out: int | None, raw: bool = False) -> float:
    parts = [_part(spectrum, left_out) for spectrum in (latents, rgb)]
    curves = [log_amplitude_ratio(part.amplitude() if raw else part.centred_amplitude()) for part in parts]
    return spectral_gap(curves[0], curves[1])
