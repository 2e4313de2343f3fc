"""The first generated images, for a grid."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diffusability.core.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.image_grid import save_grid


class SampleGrid(Evaluator):
    """Keeps the generated images that it sees and draws them as a grid, ``samples.png``; no metric."""

    needs = frozenset({"generated"})

    def __init__(self) -> None:
        self._images: dict[int, Tensor] = {}

    def update(self, batch: EvaluationBatch) -> None:
        assert batch.generated is not None
        self._images |= dict(zip(batch.indices, batch.generated.cpu(), strict=True))

    def compute(self) -> list[EvalResult]:
        return []

    def state(self) -> Mapping[int, Tensor]:
        return self._images

    def merge(self, state: Mapping[int, Tensor]) -> None:
        self._images |= state

    def draw(self, directory: Path) -> list[Path]:
        if not self._images:
            return []
        path = directory / "samples.png"
        save_grid(torch.stack([self._images[index] for index in sorted(self._images)]), path)
        return [path]
