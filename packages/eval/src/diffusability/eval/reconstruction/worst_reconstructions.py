"""The images that are reconstructed worst."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.errors import DataError
from diffusability.core.numerics.axes import as_frames
from diffusability.eval.reconstruction.psnr import psnr_per_image
from diffusability.eval.specs.reconstruction import WorstReconstructionsSpec


class WorstReconstructions(Evaluator):
    """``worst_psnr`` in dB, and pictures of the images with the lowest PSNR beside their reconstructions and errors.

    Of a clip, its worst frame counts and is shown. Memory is that of ``num_pictures`` images.
    """

    def __init__(self, spec: WorstReconstructionsSpec) -> None:
        self.spec = spec
        self._num_samples = 0
        #: PSNR, place in the set, image and reconstruction, the worst first.
        self._worst: list[tuple[float, int, Tensor, Tensor]] = []

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch."""
        assert batch.images is not None
        assert batch.reconstruction is not None
        for index, image, reconstruction in zip(batch.indices, batch.images, batch.reconstruction, strict=True):
            frames, seen = as_frames(image[None]), as_frames(reconstruction[None])
            quality = psnr_per_image(frames, seen)
            worst = int(quality.argmin())
            row = (quality[worst].item(), index, frames[worst].float().cpu(), seen[worst].float().cpu())
            self._worst.append(row)
        self._num_samples += len(batch.images)
        self._keep()

    def _keep(self) -> None:
        self._worst = sorted(self._worst, key=lambda row: row[:2])[: self.spec.num_pictures]

    def state(self) -> Any:
        return self._num_samples, self._worst

    def merge(self, state: Any) -> None:
        count, worst = state
        self._num_samples += count
        self._worst += worst
        self._keep()

    def compute(self) -> list[EvalResult]:
        if not self._worst:
            raise DataError("no images were evaluated: worst-reconstructions needs at least one")
        return [
            EvalResult(
                metric="worst_psnr",
                value=self._worst[0][0],
                unit="dB",
                higher_is_better=True,
                num_samples=self._num_samples,
                spec={"image": self._worst[0][1]},
            )
        ]

    def draw(self, directory: Path) -> list[Path]:
        """``worst-reconstructions-pictures``: a column an image: itself, its reconstruction, four times the error."""
        from matplotlib.figure import Figure

        from diffusability.eval.figures.figure_style import save

        columns = len(self._worst)
        height, width = self._worst[0][2].shape[-2:]
        figure = Figure(figsize=(1.7 * columns + 0.4, 1.7 * 3 * height / width + 0.6), layout="constrained")
        grid = figure.subplots(3, columns, squeeze=False)
        for column, (quality, index, image, reconstruction) in enumerate(self._worst):
            error = (2 * (image - reconstruction).abs() - 1).clamp(-1, 1)
            for row, (name, picture) in enumerate(
                (("image", image), ("reconstruction", reconstruction), ("error x4", error))
            ):
                axes = grid[row, column]
                pixels = ((picture + 1) / 2).clamp(0, 1).permute(1, 2, 0)
                shown = pixels if pixels.shape[2] == 3 else torch.mean(pixels, 2)
                axes.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1)
                axes.set_xticks([])
                axes.set_yticks([])
                if column == 0:
                    axes.set_ylabel(name)
            grid[0, column].set_title(f"no. {index}: {quality:.1f} dB", fontsize="small")
        return save(figure, directory, "worst-reconstructions-pictures")
