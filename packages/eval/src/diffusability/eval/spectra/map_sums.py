"""Streaming sums over the DCTs of whole maps."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.numerics.dct import dct2, dct_matrix


class MapSums:
    """Per channel and frequency, the sum of absolute coefficients of whole-map DCTs, in float64.

    Each map is added by itself, so that sums do not depend on how maps are batched.

    Attributes:
        name: what the maps are, for messages.
        num_maps: how many were added.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.num_maps = 0
        self._amplitude: Tensor = torch.zeros(())
        #: How many maps of each group, and their sum.
        self._groups: dict[int, tuple[int, Tensor]] = {}

    def update(self, maps: Float[Tensor, "n c h w"], groups: Sequence[int] | None = None) -> Float[Tensor, "n c h w"]:
        """Adds maps, and returns their coefficients, in float64 on the CPU.

        ``groups`` numbers the group of each map, for ``amplitude`` without it.

        Raises:
            DataError: the maps are of another shape than earlier ones.
        """
        if self.num_maps and maps.shape[1:] != self._amplitude.shape:
            raise DataError(
                f"{self.name} of one set must have one shape, got {tuple(maps.shape[1:])!r} after"
                f" {tuple(self._amplitude.shape)!r}"
            )
        transformed = []
        for place, values in enumerate(maps):
            coefficients = dct2(values.double())
            amplitude = coefficients.abs().cpu()
            self._amplitude = self._amplitude + amplitude
            if groups is not None:
                self._add_to_group(groups[place], 1, amplitude)
            transformed.append(coefficients.cpu())
        self.num_maps += len(maps)
        return torch.stack(transformed)

    def _add_to_group(self, group: int, count: int, amplitude: Tensor) -> None:
        earlier, before = self._groups.get(group, (0, torch.zeros(())))
        self._groups[group] = (earlier + count, before + amplitude)

    def state(self) -> Any:
        """What ``merge`` takes."""
        return self.num_maps, self._amplitude, self._groups

    def merge(self, state: Any) -> None:
        """Adds what another one has seen."""
        count, amplitude, groups = state
        if count:
            self.num_maps += count
            self._amplitude = self._amplitude + amplitude
        for group, (number, part) in groups.items():
            self._add_to_group(group, number, part)

    def amplitude(self, left_out: int | None = None) -> Float[Tensor, "c h w"]:
        """Mean absolute coefficient of each channel and frequency, of all maps or of all but those of a group.

        Raises:
            DataError: nothing was added.
        """
        if self.num_maps == 0:
            raise DataError(f"no {self.name} were evaluated: a spectrum needs at least one")
        if left_out is None:
            return self._amplitude / self.num_maps
        count, part = self._groups[left_out]
        return (self._amplitude - part) / (self.num_maps - count)


class TemporalSums:
    """Per channel, sums of absolute coefficients of DCTs along time, over all places and clips, in float64."""

    def __init__(self) -> None:
        self.num_clips = 0
        self._amplitude: Tensor = torch.zeros(())

    def update(self, clips: Float[Tensor, "n c t h w"]) -> None:
        """Adds clips. Raises DataError when their number of frames differs from earlier ones."""
        frames = clips.shape[2]
        if self.num_clips and self._amplitude.shape[1] != frames:
            raise DataError(
                f"clips of one set must have one length, got {frames} after {self._amplitude.shape[1]} frames"
            )
        for clip in clips:
            columns = clip.double().flatten(2)  # c t (h w)
            coefficients = dct_matrix(frames, columns) @ columns
            self._amplitude = self._amplitude + coefficients.abs().mean(2).cpu()
        self.num_clips += len(clips)

    def state(self) -> Any:
        """What ``merge`` takes."""
        return self.num_clips, self._amplitude

    def merge(self, state: Any) -> None:
        """Adds what another one has seen."""
        count, amplitude = state
        if count:
            self.num_clips += count
            self._amplitude = self._amplitude + amplitude

    def log_ratio(self, chosen: Bool[Tensor, " c"]) -> Float[Tensor, " t"]:
        """Natural logarithm of each temporal frequency's mean amplitude over that of temporal DC, of these channels."""
        amplitude = self._amplitude[chosen].mean(0) / self.num_clips
        return amplitude.clamp_min(1e-12 * amplitude.max()).log() - amplitude[0].clamp_min(1e-300).log()
