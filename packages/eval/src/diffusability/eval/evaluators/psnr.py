"""PSNR of reconstructions."""

from diffusability.core.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.eval.frames import as_frames, mean_of_frames
from diffusability.eval.psnr import psnr_per_image
from diffusability.eval.running_mean import RunningMean
from diffusability.eval.specs import PSNRSpec

#: An image's PSNR is cut off here, so that a perfect reconstruction does not make the mean infinite; float32 images in
#: [-1, 1] that differ by rounding alone are above it. dB.
MAX_PSNR = 120.0


class PSNR(Evaluator):
    """``psnr``: the mean over images of each image's PSNR, in dB, data range 2. Each frame of a clip is an image."""

    needs = PSNRSpec.needs

    def __init__(self) -> None:
        self._mean = RunningMean()

    def update(self, batch: EvaluationBatch) -> None:
        assert batch.images is not None
        assert batch.reconstruction is not None
        values = psnr_per_image(as_frames(batch.images), as_frames(batch.reconstruction)).clamp(max=MAX_PSNR)
        self._mean.update(mean_of_frames(values, len(batch.images)))

    def state(self) -> RunningMean:
        return self._mean

    def merge(self, state: RunningMean) -> None:
        self._mean.merge(state)

    def compute(self) -> list[EvalResult]:
        return [
            EvalResult(
                metric="psnr",
                value=self._mean.compute(),
                unit="dB",
                higher_is_better=True,
                spread=self._mean.spread(),
                num_samples=self._mean.count,
                spec={"data_range": 2.0, "max_psnr": MAX_PSNR},
            )
        ]
