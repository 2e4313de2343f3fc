"""SSIM of reconstructions."""

import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from diffusability.core.errors import DataError
from diffusability.core.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.eval.frames import as_frames, mean_of_frames
from diffusability.eval.running_mean import RunningMean
from diffusability.eval.specs import SSIMSpec

WINDOW = 11
SIGMA = 1.5


class SSIM(Evaluator):
    """``ssim``: the mean over images of each image's SSIM (Wang et al. 2004), by torchmetrics, in [-1, 1].

    Gaussian window of 11x11 pixels and sigma 1.5, data range 2, each channel by itself. Each frame of a clip is an
    image.
    """

    needs = SSIMSpec.needs

    def __init__(self) -> None:
        self._mean = RunningMean()

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch.

        Raises:
            DataError: an image is smaller than the window.
        """
        assert batch.images is not None
        assert batch.reconstruction is not None
        height, width = batch.images.shape[-2:]
        if min(height, width) < WINDOW:
            raise DataError(f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels, got {height}x{width}")
        images, reconstruction = as_frames(batch.images).float(), as_frames(batch.reconstruction).float()
        with torch.autocast(images.device.type, enabled=False):  # the window is a convolution
            values = structural_similarity_index_measure(
                reconstruction, images, data_range=2.0, sigma=SIGMA, reduction="none"
            )
        assert isinstance(values, torch.Tensor)
        self._mean.update(mean_of_frames(values, len(batch.images)))

    def state(self) -> RunningMean:
        return self._mean

    def merge(self, state: RunningMean) -> None:
        self._mean.merge(state)

    def compute(self) -> list[EvalResult]:
        return [
            EvalResult(
                metric="ssim",
                value=self._mean.compute(),
                higher_is_better=True,
                spread=self._mean.spread(),
                num_samples=self._mean.count,
                spec={"data_range": 2.0, "window": WINDOW, "sigma": SIGMA},
            )
        ]
