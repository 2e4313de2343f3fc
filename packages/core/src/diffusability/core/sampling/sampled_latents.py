"""Sampled latents on disk, by their numbers, so that an interrupted generation resumes where it stopped."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from diffusability.core.checksums import load_verified, save_with_checksums
from diffusability.core.shapes import Latents
from diffusability.core.writing import replacing


class SampledLatents:
    """A folder of files, each with some samples and their numbers. Any rank reads what any other has written.

    A file appears whole or not at all; one that cannot be read, or does not match its checksums, counts as missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, frozenset[int]] = {}

    def read(self, positions: Sequence[int]) -> Mapping[int, Float[Tensor, "c *t h w"]]:
        """Those of the samples with these numbers that are there, on the CPU."""
        wanted = set(positions)
        samples: dict[int, Tensor] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            if path in self._files and not wanted & self._files[path]:
                continue
            try:
                content = load_verified(path)
                numbers, latents = content["numbers"].tolist(), content["latents"]
            except (OSError, SafetensorError, KeyError, ValueError):
                continue
            self._files[path] = frozenset(numbers)
            samples |= {number: latent for number, latent in zip(numbers, latents, strict=True) if number in wanted}
        return samples

    def keep(self, positions: Sequence[int], latents: Latents) -> None:
        """Writes samples and their numbers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{positions[0]:08d}-{positions[-1]:08d}.safetensors"
        tensors = {"numbers": torch.tensor(list(positions)), "latents": latents.detach().cpu().contiguous()}
        with replacing(path, shared=True) as partial:
            save_with_checksums(tensors, partial)
        self._files[path] = frozenset(positions)

    def remove(self) -> None:
        """Deletes all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._files.clear()
