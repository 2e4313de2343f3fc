"""What qualities of reconstructions have in common: a mean over images."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.shapes import Images
from diffusability.eval.streaming.sample_mean import SampleMean


class ReconstructionMean(Evaluator):
    """The mean over samples of a quality of each reconstruction; of a clip that is the mean over its frames.

    Attributes:
        metric: its name.
        higher_is_better: its direction.
        unit: its unit.
    """

    needs = frozenset({"images", "reconstruction"})
    metric: str
    higher_is_better: bool
    unit: str = ""

    def __init__(self) -> None:
        self._mean = SampleMean()

    @abstractmethod
    def quality(self, images: Images, reconstruction: Images) -> Float[Tensor, " b"]:
        """The quality of each sample; images and reconstructions in [-1, 1]."""

    def settings(self) -> Mapping[str, Any]:
        """What defines the number."""
        return {}

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch. Raises DataError when the images do not suit the measure."""
        assert batch.images is not None
        assert batch.reconstruction is not None
        self._mean.update(batch.indices, self.quality(batch.images, batch.reconstruction))

    def state(self) -> SampleMean:
        return self._mean

    def merge(self, state: SampleMean) -> None:
        self._mean.merge(state)

    def compute(self) -> list[EvalResult]:
        return [
            EvalResult(
                metric=self.metric,
                value=self._mean.compute(),
                unit=self.unit,
                higher_is_better=self.higher_is_better,
                num_samples=self._mean.count,
                spread=self._mean.spread(),
                spec=dict(self.settings()),
                values=self._mean.values(),
            )
        ]
