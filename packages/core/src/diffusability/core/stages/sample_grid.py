"""The first generated images, for a grid; of clips, a contact sheet and the clips themselves."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.sampling.image_grid import save_grid
from diffusability.core.sampling.sample_files import save_sample

_MOST_ON_SHEET = 16
_MOST_FILES = 8
_FRAMES_PER_S = 8


class SampleGrid(Evaluator):
    """Keeps the generated images that it sees and draws them as a grid, ``samples.png``; no metric.

    Of clips, the first 16 make a contact sheet, and the first 8 are also written as ``clip-00.mp4`` and so on, where
    PyAV is installed (extra ``video`` of diffusability-core).
    """

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
        images = torch.stack([self._images[index] for index in sorted(self._images)])
        if images.ndim == 4:
            save_grid(images, path)
            return [path]
        save_grid(images[:_MOST_ON_SHEET], path)
        if importlib.util.find_spec("av") is None:
            return [path]
        clips = enumerate(images[:_MOST_FILES])
        return [path, *(save_sample(clip, directory / f"clip-{index:02d}", _FRAMES_PER_S) for index, clip in clips)]
