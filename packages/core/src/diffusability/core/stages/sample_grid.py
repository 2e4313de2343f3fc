"""Grids of the first generated images and of as many real ones; of clips, contact sheets and the clips themselves."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diffusability.core.contracts.dataset import Dataset
from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.sampling.image_grid import save_grid
from diffusability.core.sampling.sample_files import save_sample
from diffusability.core.stages.evaluation_data import chunk_views, fixed_order

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


def draw_real_images(dataset: Dataset, count: int, directory: Path) -> list[Path]:
    """The first images of the evaluated set as a grid, ``real-images.png``: what samples should look like.

    Images that cannot be read are left out. Of clips, the first 16 make a contact sheet.

    Args:
        dataset: real images in [-1, 1].
        count: how many images, at most.
        directory: where the grid is written.
    """
    views = next(chunk_views(dataset, [fixed_order(dataset, count)]))
    if views.data is None:
        return []
    path = directory / "real-images.png"
    save_grid(views.data if views.data.ndim == 4 else views.data[:_MOST_ON_SHEET], path)
    return [path]
