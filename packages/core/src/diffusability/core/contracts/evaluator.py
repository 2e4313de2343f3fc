"""The contract of an evaluator and its results."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.from_spec import FromSpec
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.contracts.sampler import Sampler
from diffusability.core.errors import NotFiniteError
from diffusability.core.numerics.finite import require_finite
from diffusability.core.shapes import Images, Labels, Latents
from diffusability.core.specs.metric_info import MetricInfo

if TYPE_CHECKING:
    from diffusability.core.contracts.diffusion_model import DiffusionModel


@attrs.frozen(kw_only=True, eq=False)
class EvaluationBatch:
    """What an evaluator sees of one batch: the fields that some evaluator needs. The others may be None.

    All tensors have one row for each of ``indices``. What is random in an evaluator must depend on its seed and the
    index of a sample alone, not on how samples are batched or spread over ranks.

    Attributes:
        indices: the place of each sample in the evaluated set, from 0, ascending. Places of images that could not be
            read are missing.
        images: real images in [-1, 1].
        labels: classes of the real images. Filled wherever images are loaded and the data has labels; name it in
            ``needs`` only if the evaluator can do nothing without.
        posterior: the encoder's posterior of the images.
        latents: raw latents of the images, the posterior's mode.
        reconstruction: the decoded mode, clamped to [-1, 1].
        autoencoder: the autoencoder, in eval mode; its calls must be made without gradients. Where samples of a
            denoiser are evaluated, the one whose latents it was trained on.
        held_out: real images of the other split than ``images``: of validation where those are training images. In no
            relation to them; fewer rows where some could not be read.
        generated: generated images in [-1, 1], in no relation to ``images``; the k-th depends on the seed and k alone.
        generated_labels: the classes that they were generated for; None for an unconditional model.
        diffusion_model: the trained denoiser with its normaliser, in eval mode.
        sampler: the sampler that makes ``generated``.

    Raises:
        NotFiniteError: a tensor holds NaN or infinity: no evaluator sees such numbers.
    """

    indices: Sequence[int]
    images: Images | None = None
    labels: Labels | None = None
    posterior: Posterior | None = None
    latents: Latents | None = None
    reconstruction: Images | None = None
    autoencoder: Autoencoder | None = None
    held_out: Images | None = None
    generated: Images | None = None
    generated_labels: Labels | None = None
    diffusion_model: "DiffusionModel | None" = None
    sampler: Sampler | None = None

    def __attrs_post_init__(self) -> None:
        posterior = self.posterior
        tensors = {
            "images": self.images,
            "posterior means": None if posterior is None else posterior.mean,
            "posterior log variances": None if posterior is None else posterior.logvar,
            "latents": self.latents,
            "reconstructions": self.reconstruction,
            "generated images": self.generated,
            "held-out images": self.held_out,
        }
        for what, values in tensors.items():
            if values is not None and not (what == "latents" and posterior is not None and values is posterior.mean):
                require_finite(values, what, self.indices)


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
    """One metric. Exactly one of ``value`` and ``curve`` is set, to finite numbers (``NotFiniteError`` otherwise).

    Attributes:
        metric: stable name, such as ``psnr``; names of curves end in ``_curve``.
        value: the number.
        curve: the function.
        unit: such as ``dB`` or ``nats``; empty for a pure number.
        higher_is_better: None when neither direction is better.
        num_samples: how many images it was computed from.
        spread: standard deviation of ``value`` over bootstrap samples of the images, or over what ``spec`` names as
            ``spread_over``; None where it was not computed.
        spec: the settings that define the number.
        note: what a reader must know to judge the number, such as that samples were few, without a full stop; empty
            where there is nothing.
        values: the number sample by sample, or without each group of samples, so that variants that saw the same
            samples are compared in pairs; None where it was not kept, and variants count as independent.
        info: the name that readers see, what it means and where it stands; None: what the evaluator's spec says of it.
    """

    metric: str
    num_samples: int
    value: float | None = None
    curve: Curve | None = None
    unit: str = ""
    higher_is_better: bool | None = None
    spread: float | None = None
    spec: dict[str, Any] = attrs.field(factory=dict)
    note: str = ""
    values: SampleValues | None = None
    info: MetricInfo | None = None

    def __attrs_post_init__(self) -> None:
        assert (self.value is None) != (self.curve is None), "exactly one of value and curve"
        curve = [] if self.curve is None else [*self.curve.x, *self.curve.y, *(self.curve.y_std or ())]
        numbers = [number for number in (self.value, self.spread, *curve) if number is not None]
        bad = next((number for number in numbers if not math.isfinite(number)), None)
        if bad is not None:
            what = "value" if bad is self.value else "spread" if bad is self.spread else "point of the curve"
            raise NotFiniteError(f"metric {self.metric!r} has the {what} {bad!r}; expected a finite number")


class Evaluator(FromSpec, ABC):
    """Computes metrics from batches, streaming: memory does not grow with the number of samples.

    On several ranks each one makes and updates an evaluator of its own, with its share of the batches. At the end the
    first rank merges what the others have seen, in the order of ranks, and computes. An evaluator that implements
    ``state`` and ``merge`` works so. One that does not is updated on the first rank alone, with the very batches, in
    the very order, that it would see on a single process; the fields that it needs travel there, which is slower.

    Attributes:
        needs: names of the EvaluationBatch fields that ``update`` reads. What nobody needs is not computed.
    """

    needs: frozenset[str] = frozenset()

    def expect(self, num_samples: int) -> None:
        """Receives the number of samples of the whole set, over all ranks, before anything is computed.

        Raises:
            DataError: they are too few, or too many.
        """

    @abstractmethod
    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch. Called without gradients."""

    @abstractmethod
    def compute(self) -> list[EvalResult]:
        """The metrics of everything seen. Raises DataError when nothing was seen."""

    def state(self) -> Any:
        """What was seen so far, picklable and on the CPU, for another rank's ``merge``; also when nothing was seen."""
        raise TypeError(f"{type(self).__name__} does not merge")

    def merge(self, state: Any) -> None:
        """Adds what another rank's evaluator of the same spec has seen, as if this one had seen it."""
        raise TypeError(f"{type(self).__name__} does not merge")

    @property
    def can_merge(self) -> bool:
        """Whether ``state`` and ``merge`` are implemented."""
        cls = type(self)
        return cls.state is not Evaluator.state and cls.merge is not Evaluator.merge

    def draw(self, directory: Path) -> list[Path]:
        """Writes figures of what was computed (``NAME.png`` and ``NAME.svg``) and returns their paths."""
        return []
