"""The contract of an evaluator and its results."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from diffusability.core.autoencoder import Autoencoder
from diffusability.core.posterior import Posterior
from diffusability.core.shapes import Images, Latents


@attrs.frozen(kw_only=True, eq=False)
class EvaluationBatch:
    """What an evaluator sees of one batch. Fields that the stage does not provide are None.

    Attributes:
        images: real images in [-1, 1].
        posterior: the encoder's posterior of them.
        latents: raw latents, the posterior's mode.
        reconstruction: the decoded mode, clamped to [-1, 1].
        autoencoder: the autoencoder, in eval mode; its calls must be made without gradients.
        generated: generated images in [-1, 1]; as many as ``images``, in no relation to them.
    """

    images: Images | None = None
    posterior: Posterior | None = None
    latents: Latents | None = None
    reconstruction: Images | None = None
    autoencoder: Autoencoder | None = None
    generated: Images | None = None


@attrs.frozen(kw_only=True)
class Curve:
    """A metric that is a function. ``y_std`` is a spread around ``y``, of the same length."""

    x: Sequence[float]
    y: Sequence[float]
    x_label: str
    y_label: str = ""
    y_std: Sequence[float] | None = None


@attrs.frozen(kw_only=True)
class EvalResult:
    """One metric. Exactly one of ``value`` and ``curve`` is set.

    Attributes:
        metric: stable name, such as ``psnr``; names of curves end in ``_curve``.
        value: the number.
        curve: the function.
        unit: such as ``dB`` or ``nats``; empty for a pure number.
        higher_is_better: None when neither direction is better.
        num_samples: how many images it was computed from.
        spec: the settings that define the number.
    """

    metric: str
    num_samples: int
    value: float | None = None
    curve: Curve | None = None
    unit: str = ""
    higher_is_better: bool | None = None
    spec: dict[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        assert (self.value is None) != (self.curve is None), "exactly one of value and curve"


class Evaluator(ABC):
    """Computes metrics from batches, streaming: memory does not grow with the number of samples.

    Attributes:
        needs: names of the EvaluationBatch fields that ``update`` reads.
    """

    needs: frozenset[str] = frozenset()

    @abstractmethod
    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch. Called without gradients."""

    @abstractmethod
    def compute(self) -> list[EvalResult]:
        """The metrics of everything seen. Raises DataError when nothing was seen."""

    def draw(self, directory: Path) -> list[Path]:
        """Writes figures of what was computed (``NAME.png`` and ``NAME.svg``) and returns their paths."""
        return []
