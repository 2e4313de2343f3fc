"""Statistics of each channel of latents at each place, for normalisers of that shape."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffusability.core.checksums import load_verified, save_with_checksums
from diffusability.core.contracts.normalizer import LatentNormalizer, refuse_normalized
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.errors import DataError
from diffusability.core.reading import reading
from diffusability.core.writing import replacing


class PlaceStatistics:
    """Streaming mean and standard deviation of each value of latents of one shape, over samples, in float64.

    Representation autoencoders normalise so (Zheng et al. 2025, section 3.1).
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.count = 0
        self.sum = torch.zeros(*shape, dtype=torch.float64)
        self.sum_of_squares = torch.zeros(*shape, dtype=torch.float64)

    def update(self, posterior: Posterior) -> None:
        """Adds a batch of posteriors: the moments are those of samples from them, without drawing any."""
        refuse_normalized(posterior.mean, "PlaceStatistics")
        mean = posterior.mean.detach().double()
        second = mean.square()
        if posterior.logvar is not None:
            second = second + posterior.logvar.detach().double().exp()
        self.count += len(mean)
        self.sum += mean.sum(0).cpu()
        self.sum_of_squares += second.sum(0).cpu()

    def merge(self, other: "PlaceStatistics") -> None:
        """Adds what another one has seen."""
        self.count += other.count
        self.sum += other.sum
        self.sum_of_squares += other.sum_of_squares

    def write(self, path: Path) -> None:
        """Writes a safetensors file that ``read`` reads."""
        tensors = {"count": torch.tensor(self.count), "sum": self.sum, "sum_of_squares": self.sum_of_squares}
        with replacing(path) as partial:
            save_with_checksums(tensors, partial)

    @classmethod
    def read(cls, path: Path) -> "PlaceStatistics":
        """The inverse of ``write``. Raises DataError when the file is missing or damaged."""
        with reading("statistics of latents", path, DataError):
            tensors: dict[str, Tensor] = load_verified(path)
            statistics = cls(tensors["sum"].shape)
            statistics.count = int(tensors["count"])
            statistics.sum, statistics.sum_of_squares = tensors["sum"], tensors["sum_of_squares"]
        return statistics

    def normalizer(self) -> LatentNormalizer:
        """The normaliser to these statistics; a value that is constant over samples is only shifted."""
        mean = self.sum / max(self.count, 1)
        std = (self.sum_of_squares / max(self.count, 1) - mean.square()).clamp_min(0).sqrt()
        return LatentNormalizer(mean, torch.where(std > 1e-6, std, torch.ones_like(std)))
