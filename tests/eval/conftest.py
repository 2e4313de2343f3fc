from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import EvaluatorSpec


class PoolingAutoencoder(Autoencoder):
    """Averages blocks of pixels and repeats them back, so that what it does to frequencies is known."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.info = AutoencoderInfo(latent_channels=3, spatial_factor=factor)

    def encode(self, images: Tensor) -> Posterior:
        factor = self.info.spatial_factor
        frames = images.flatten(1, -3)
        mean = F.avg_pool2d(frames, factor).unflatten(1, images.shape[1:-2])
        return Posterior(mean=mean, logvar=torch.full_like(mean, -6.0))

    def decode(self, latents: Tensor) -> Tensor:
        factor = self.info.spatial_factor
        return latents.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


@pytest.fixture
def pooling() -> Callable[[int], Autoencoder]:
    """An autoencoder that pools by a factor; by 1 it is the identity."""
    return PoolingAutoencoder


@pytest.fixture
def noise() -> Callable[..., Tensor]:
    """Standard normal numbers of a shape, from a seed, in float32."""

    def make(*shape: int, seed: int = 0) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture(scope="session")
def photograph() -> Tensor:
    """scikit-image's astronaut, ``1 3 512 512`` in [-1, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(skimage.data.astronaut()))
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.fixture(scope="session")
def photographs() -> Callable[[int, int], Tensor]:
    """``count`` different crops of real photographs at half size, of that side, in [-1, 1]."""

    def make(count: int, side: int) -> Tensor:
        crops: list[Tensor] = []
        sources = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
        halves = [F.avg_pool2d(torch.from_numpy(np.ascontiguousarray(s)).permute(2, 0, 1).float(), 2) for s in sources]
        generator = torch.Generator().manual_seed(0)
        for index in range(count):
            source = halves[index % len(halves)]
            top, left = (int(torch.randint(extent - side + 1, (), generator=generator)) for extent in source.shape[1:])
            crops.append(source[:, top : top + side, left : left + side])
        return torch.stack(crops) / 127.5 - 1

    return make


@pytest.fixture
def evaluate() -> Callable[..., dict[str, EvalResult]]:
    """Results by metric of an evaluator that is fed in batches of the given sizes (default: one batch)."""

    def run(
        made_from: EvaluatorSpec | Evaluator,
        sizes: Sequence[int] | None = None,
        autoencoder: Autoencoder | None = None,
        **fields: Any,
    ) -> dict[str, EvalResult]:
        evaluator = made_from if isinstance(made_from, Evaluator) else made_from.build(BuildContext())
        first = next(iter(fields.values()))
        total = len(first.mean if isinstance(first, Posterior) else first)
        start = 0
        for size in sizes or [total]:
            parts = {name: _part(value, start, start + size) for name, value in fields.items()}
            evaluator.update(EvaluationBatch(indices=range(start, start + size), autoencoder=autoencoder, **parts))
            start += size
        assert start == total
        return {result.metric: result for result in evaluator.compute()}

    return run


def _part(value: Tensor | Posterior, start: int, stop: int) -> Tensor | Posterior:
    if isinstance(value, Posterior):
        logvar = None if value.logvar is None else value.logvar[start:stop]
        return Posterior(mean=value.mean[start:stop], logvar=logvar)
    return value[start:stop]
