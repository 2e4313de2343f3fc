"""Spatial structure of latents."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.numerics.axes import as_frames
from diffusability.eval.predictors.standardization import ChannelScaling
from diffusability.eval.specs.predictors import SpatialStructureSpec
from diffusability.eval.streaming.bootstrap import spread_of_mean
from diffusability.eval.streaming.sample_table import SampleTable

FAR = 6
LONGEST = 8


def manhattan_distances(height: int, width: int) -> Int[Tensor, "s s"]:
    """Distance of each pair of places of a grid, row by row."""
    row = torch.arange(height).repeat_interleave(width)
    column = torch.arange(width).repeat(height)
    return (row[:, None] - row).abs() + (column[:, None] - column).abs()


def cosine_similarities(latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n s s"]:
    """Cosine of the channel vectors of each pair of places, within each map; 0 where a vector is 0."""
    unit = torch.nn.functional.normalize(latents.float().flatten(2), dim=1)
    return unit.transpose(1, 2) @ unit


def mean_by_distance(
    similarities: Float[Tensor, "n s s"], distances: Int[Tensor, "s s"]
) -> tuple[Float[Tensor, "n d"], Int[Tensor, " d"]]:
    """Mean similarity of the pairs at each distance from 0 to the largest, and how many pairs there are."""
    flat = distances.flatten()
    counts = torch.bincount(flat)
    sums = torch.stack([torch.bincount(flat, weights=values.flatten().double()) for values in similarities])
    return sums / counts, counts


def local_distant_similarity(
    means: Float[Tensor, "n d"], counts: Int[Tensor, " d"], far: int = FAR
) -> Float[Tensor, " n"]:
    """LDS: mean similarity of direct neighbours minus that of pairs at a distance of ``far`` or more.

    Takes what ``mean_by_distance`` gives. NaN on grids that have no pair so far apart.
    """
    weights = counts[far:].to(means)
    return means[:, 1] - (means[:, far:] @ weights) / weights.sum()


def correlation_decay_slope(means: Float[Tensor, "n d"], longest: int = LONGEST) -> Float[Tensor, " n"]:
    """CDS: minus the slope of a line fitted to the mean similarity against the distance, from 1 to ``longest``.

    Takes the means of ``mean_by_distance``. Per latent pixel; more is a faster decay. NaN where the grid has a single
    distance.
    """
    chosen = means[:, 1 : longest + 1]
    offset = torch.arange(chosen.shape[1], dtype=means.dtype, device=means.device)
    offset = offset - offset.mean()
    return -((chosen - chosen.mean(1, keepdim=True)) @ offset) / offset.square().sum()


def region_self_similarity(
    similarities: Float[Tensor, "n s s"],
    distances: Int[Tensor, "s s"],
    foreground: Bool[Tensor, "n s"],
    near: int = 1,
    far: int = FAR,
) -> Float[Tensor, " n"]:
    """SRSS: how much more similar a foreground place is to near foreground than to far background, a mean over places.

    NaN for images without such pairs.
    """
    is_near = ((distances >= 1) & (distances <= near)).to(similarities)
    is_far = (distances >= far).to(similarities)
    inside = foreground.to(similarities)[..., None]
    outside = 1 - inside
    positive = ((similarities * is_near) @ inside) / (is_near @ inside)
    negative = ((similarities * is_far) @ outside) / (is_far @ outside)
    difference = (positive - negative)[..., 0]
    return difference.masked_fill(~foreground, torch.nan).nanmean(1)


def luminance_foreground(images: Float[Tensor, "n c h w"], height: int, width: int) -> Bool[Tensor, "n s"]:
    """A stand-in for object masks: the rarer side of Otsu's threshold on the luminance, pooled to ``height x width``.

    Otsu 1979: the threshold that parts the values into the two classes of the largest between-class variance. Real
    masks are better; where an object does not differ in brightness this one is wrong.
    """
    pooled = torch.nn.functional.adaptive_avg_pool2d(images.double().mean(1, keepdim=True), (height, width)).flatten(1)
    ordered = pooled.sort(1).values
    count = ordered.shape[1]
    below = torch.arange(1, count, dtype=torch.float64, device=images.device)
    sums = ordered.cumsum(1)[:, :-1]
    mean_below, mean_above = sums / below, (ordered.sum(1, keepdim=True) - sums) / (count - below)
    between = below * (count - below) * (mean_below - mean_above).square()
    threshold = ordered.gather(1, between.argmax(1, keepdim=True))
    bright = pooled > threshold
    rarer_is_bright = bright.sum(1, keepdim=True) * 2 <= count
    return torch.where(rarer_is_bright, bright, ~bright)


class SpatialStructure(Evaluator):
    """``lds``, ``cds`` and ``srss`` of latents (Singh et al. 2025, arXiv 2512.10794), means over images.

    Of latents as a denoiser sees them: each channel at mean 0 and variance 1 over the set, constant ones left out. A
    constant offset makes all cosines of raw latents nearly 1; ``lds_raw``, ``cds_raw`` and ``srss_raw`` are of those.

    More is better in the comparison of arXiv 2606.03578. The foreground that ``srss`` needs is a stand-in: Otsu's
    threshold on luminance (``foreground`` in the results' spec says so). Images without a pair of places as far apart
    as ``far`` are left out, and a metric that no image has is not reported. Of clips, the mean over frames.

    It keeps the latents of ``num_samples`` images in float32.
    """

    def __init__(self, spec: SpatialStructureSpec) -> None:
        self.spec = spec
        self._table = SampleTable("spatial-structure")

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch."""
        assert batch.images is not None
        assert batch.latents is not None
        height, width = batch.latents.shape[-2:]
        foregrounds = []
        for image, latent in zip(batch.images, batch.latents, strict=True):
            pictures = _matching(as_frames(image[None]), len(as_frames(latent[None])))
            foregrounds.append(luminance_foreground(pictures, height, width))
        columns = {"latents": batch.latents.float(), "foreground": torch.stack(foregrounds)}
        self._table.add(batch.indices, columns)

    def state(self) -> Any:
        return self._table.state()

    def merge(self, state: Any) -> None:
        self._table.merge(state)

    def compute(self) -> list[EvalResult]:
        columns = self._table.columns()
        latents, foregrounds = columns["latents"], columns["foreground"]
        scaling = ChannelScaling.from_latents(latents, "spatial-structure")
        rows: dict[str, list[Tensor]] = {}
        for latent, foreground in zip(latents, foregrounds, strict=True):  # one by one: a pair of places takes 8 bytes
            for suffix, values in (("", scaling(latent[None])), ("_raw", latent[None])):
                for name, value in self._of_sample(as_frames(values), foreground).items():
                    rows.setdefault(name + suffix, []).append(value)
        return [
            self._result(metric, values, scaling.note)
            for metric, row in rows.items()
            if (values := torch.stack(row)).isfinite().any()
        ]

    def _of_sample(self, maps: Float[Tensor, "t c h w"], foreground: Bool[Tensor, "t s"]) -> dict[str, Tensor]:
        """The three of one sample, means over its frames; NaN where they are not defined."""
        distances = manhattan_distances(*maps.shape[-2:])
        similarities = cosine_similarities(maps)
        means, counts = mean_by_distance(similarities, distances)
        regions = region_self_similarity(similarities, distances, foreground, far=self.spec.far)
        return {
            "lds": local_distant_similarity(means, counts, self.spec.far).mean().double(),
            "cds": correlation_decay_slope(means, self.spec.longest).mean().double(),
            "srss": regions.nanmean().double(),
        }

    def _result(self, metric: str, column: Tensor, note: str) -> EvalResult:
        """The mean over the samples that have a value."""
        raw, is_known = metric.endswith("_raw"), column.isfinite()
        values = column[is_known]
        places = [index for index, known in zip(self._table.indices, is_known.tolist(), strict=True) if known]
        settings: dict[str, Any] = {
            "far": self.spec.far,
            "channels": "raw" if raw else "standardised over all images",
        }
        settings["spread_over"] = "200 bootstrap samples"
        if metric.startswith("cds"):
            settings["longest"] = self.spec.longest
        if metric.startswith("srss"):
            settings["foreground"] = "Otsu's threshold on luminance"
        return EvalResult(
            metric=metric,
            value=values.mean().item(),
            higher_is_better=None if raw else True,
            num_samples=len(values),
            spread=spread_of_mean(values),
            spec=settings,
            note="" if raw else note,
            values=SampleValues.from_samples(places, values.tolist()),
        )


def _matching(frames: torch.Tensor, count: int) -> torch.Tensor:
    """As many frames as there are latent ones, evenly spaced: a causal autoencoder shortens time."""
    if len(frames) == count:
        return frames
    places = torch.linspace(0, len(frames) - 1, count).round().long()
    return frames[places.to(frames.device)]
