"""Streaming sums over the block DCTs of many maps."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.numerics.axes import as_frames
from diffusability.core.numerics.dct import dct2, to_blocks, zigzag_order
from diffusability.core.shapes import Latents


def coefficients(latents: Latents, block_size: int) -> Float[Tensor, "n c blocks k"]:
    """Block DCT coefficients of every frame, cropped to whole blocks, in zigzag order and float64."""
    blocks = dct2(to_blocks(crop_to_blocks(as_frames(latents).double(), block_size), block_size))
    return blocks.flatten(2, 3).flatten(-2)[..., zigzag_order(block_size).to(latents.device)]


SMALLEST_BLOCK = 4


def fitting_block_size(height: int, width: int, block_size: int) -> int:
    """``block_size`` where a map holds such a block, else the largest power of two that it does.

    Raises:
        DataError: not even a block of 4 by 4 fits: too few frequencies to speak of a spectrum.
    """
    side = min(height, width)
    if side < SMALLEST_BLOCK:
        raise DataError(
            f"latents of {height}x{width} are too small for block DCTs; expected at least"
            f" {SMALLEST_BLOCK}x{SMALLEST_BLOCK}: evaluate at a higher image resolution"
        )
    return block_size if side >= block_size else 1 << (side.bit_length() - 1)


def crop_to_blocks(maps: Float[Tensor, "... h w"], block_size: int) -> Float[Tensor, "... h2 w2"]:
    """Drops the rows below and the columns to the right of the last whole block."""
    height, width = (side - side % block_size for side in maps.shape[-2:])
    return maps[..., :height, :width]


#: A channel is constant when its variance is below this share of its mean square.
CONSTANT = 1e-12

#: Values that are transformed at once, unless a single map has more. Half a MiB stays in a core's cache; elsewhere a
#: call costs more than its arithmetic.
CHUNK_OF_CPU, CHUNK = 1 << 16, 1 << 22


class BlockSpectrum:
    """What the spectrum of a set of maps needs: per channel and frequency, sums in float64.

    Maps are cropped to whole blocks. A few are transformed at once, in float64 (so neither autocast nor the input's
    dtype matter), each block by itself, and each map's sums are added in turn: on the CPU the sums are the same to the
    bit however the maps are batched, elsewhere up to rounding. Memory is bounded by ``CHUNK``, not by the batch.

    Attributes:
        name: what the maps are, for messages.
        block_size: side of a block.
        keeps_dc: whether ``centred_amplitude`` is wanted, for which the blocks' DC coefficients are kept.
        num_blocks: blocks seen, of each channel.
    """

    def __init__(self, name: str, block_size: int, keeps_dc: bool = False) -> None:
        self.name = name
        self.block_size = block_size
        self.num_blocks = 0
        self._amplitude: Tensor = torch.zeros(())
        self._energy: Tensor = torch.zeros(())
        self._dc: Tensor = torch.zeros(())
        self.keeps_dc = keeps_dc
        #: DC coefficients of blocks, of maps without a group; those of the others are in their groups.
        self._kept_dc: list[Tensor] = []
        self._groups: dict[int, BlockSpectrum] = {}

    def update(self, maps: Float[Tensor, "n c h w"], groups: Sequence[int] | None = None) -> None:
        """Adds a batch of maps; ``groups`` numbers the group of each, for ``without``."""
        cropped = crop_to_blocks(maps, self.block_size)
        if self.num_blocks and maps.shape[1] != len(self._amplitude):
            raise DataError(f"{self.name} have {maps.shape[1]} channels; expected {len(self._amplitude)} as before")
        chunk = (CHUNK_OF_CPU if maps.device.type == "cpu" else CHUNK) // max(1, cropped.shape[1:].numel())
        seen = 0
        for few in torch.split(cropped, max(1, chunk)):
            blocks = dct2(to_blocks(few, self.block_size).double().contiguous()).flatten(2, 3)  # n c blocks u v
            each_dc = blocks[..., 0, 0].cpu().clone()
            dc = each_dc.sum(2)
            # In place, and plain sums: norms over an axis that is not the last are several times as slow.
            amplitude = blocks.abs_().sum(2).cpu()
            energy = blocks.square_().sum(2).cpu()
            for place in range(len(few)):
                self._add(blocks.shape[2], amplitude[place], energy[place], dc[place])
                part = self
                if groups is not None:
                    part = self._groups.setdefault(groups[seen + place], self._empty())
                    part._add(blocks.shape[2], amplitude[place], energy[place], dc[place])
                if self.keeps_dc:
                    part._kept_dc.append(each_dc[place].clone())
            seen += len(few)

    def _add(self, num_blocks: int, amplitude: Tensor, energy: Tensor, dc: Tensor) -> None:
        self.num_blocks += num_blocks
        self._amplitude = self._amplitude + amplitude
        self._energy = self._energy + energy
        self._dc = self._dc + dc

    def without(self, group: int) -> "BlockSpectrum":
        """Of all maps with a group but those of one: their sums are added, so that nothing is transformed again.

        No group is subtracted, so that a channel which is constant over the others is exactly constant.
        """
        rest = self._empty()
        for number in sorted(self._groups):
            if number != group:
                rest.merge(self._groups[number])
        return rest

    def _empty(self) -> "BlockSpectrum":
        return BlockSpectrum(self.name, self.block_size, self.keeps_dc)

    def merge(self, other: "BlockSpectrum") -> None:
        """Adds what another one has seen.

        Raises:
            DataError: its maps had another number of channels or another block.
        """
        if other.num_blocks == 0:
            return
        self._kept_dc += other._kept_dc
        if self.num_blocks == 0:
            self.num_blocks, self.block_size = other.num_blocks, other.block_size
            self._amplitude, self._energy, self._dc = other._amplitude, other._energy, other._dc
            for group, part in other._groups.items():
                self._groups.setdefault(group, self._empty()).merge(part)
            return
        if other._energy.shape != self._energy.shape:
            raise DataError(
                f"{self.name} have spectra of shape {tuple(other._energy.shape)!r}; expected"
                f" {tuple(self._energy.shape)!r} as before"
            )
        self._add(other.num_blocks, other._amplitude, other._energy, other._dc)
        for group, part in other._groups.items():
            self._groups.setdefault(group, self._empty()).merge(part)

    def _variance(self) -> Float[Tensor, " c"]:
        # By Parseval the coefficients' energy is the pixels'; a block's DC is block_size times its mean.
        mean_square = self._energy.sum((1, 2)) / (self.num_blocks * self.block_size**2)
        mean = self._dc / (self.num_blocks * self.block_size)
        variance = mean_square - mean.square()
        return torch.where(variance > CONSTANT * mean_square, variance, torch.zeros_like(variance))

    def varying(self) -> Bool[Tensor, " c"]:
        """Which channels are not constant over all maps. Constant ones have no spectrum and are left out of it.

        Raises:
            DataError: nothing was seen, or all channels are constant.
        """
        if self.num_blocks == 0:
            raise DataError(f"no {self.name} were evaluated: a spectrum needs at least one")
        varying = self._variance() > 0
        if not varying.any():
            raise DataError(f"the {self.name} are constant in every channel: they have no spectrum")
        return varying

    def amplitude(self) -> Float[Tensor, "c n n"]:
        """Mean absolute coefficient of each frequency, of the channels that vary."""
        return self._amplitude[self.varying()] / self.num_blocks

    def centred_amplitude(self) -> Float[Tensor, "c n n"]:
        """``amplitude`` of channels less their means: the DC does not depend on a constant offset."""
        assert self.keeps_dc, "the DC coefficients were not kept"
        amplitude = self.amplitude().clone()
        kept = self._kept_dc + [dc for group in sorted(self._groups) for dc in self._groups[group]._kept_dc]
        dc = torch.cat(kept, dim=1)[self.varying()]
        amplitude[:, 0, 0] = (dc - dc.mean(1, keepdim=True)).abs().mean(1)
        return amplitude

    def note(self) -> str:
        """How many channels are left out, for readers of a result; empty when all vary."""
        varying = self.varying()
        constant = int((~varying).sum())
        return f"{constant} of {len(varying)} channels of the {self.name} constant: left out" if constant else ""

    def energy(self) -> Float[Tensor, "c n n"]:
        """Summed squared coefficient of each frequency, of the channels that vary."""
        return self._energy[self.varying()]

    def variance(self) -> Float[Tensor, " c"]:
        """Variance over all maps and pixels of the channels that vary."""
        return self._variance()[self.varying()]
