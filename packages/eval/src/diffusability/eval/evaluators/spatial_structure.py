"""Spatial structure of latents."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffusability.core.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.sample_values import SampleValues
from diffusability.eval.frames import as_frames
from diffusability.eval.predictor_specs import SpatialStructureSpec
from diffusability.eval.predictors.bootstrap import spread_of_mean
from diffusability.eval.predictors.spatial_structure import (
    correlation_decay_slope,
    cosine_similarities,
    local_distant_similarity,
    luminance_foreground,
    manhattan_distances,
    mean_by_distance,
    region_self_similarity,
)
from diffusability.eval.predictors.standardization import ChannelScaling
from diffusability.eval.sample_table import SampleTable


class SpatialStructure(Evaluator):
    """``lds``, ``cds`` and ``srss`` of latents (Singh et al. 2025, arXiv 2512.10794), means over images.

    Of latents as a denoiser sees them: each channel at mean 0 and variance 1 over the set, constant ones left out. A
    constant offset makes all cosines of raw latents nearly 1; ``lds_raw``, ``cds_raw`` and ``srss_raw`` are of those.

    More is better in the comparison of arXiv 2606.03578. The foreground that ``srss`` needs is a stand-in: Otsu's
    threshold on luminance (``foreground`` in the results' spec says so). Images without a pair of places as far apart
    as ``far`` are left out, and a metric that no image has is not reported. Of clips, the mean over frames.

    It keeps the latents of ``num_samples`` images in float32.
    """

    needs = SpatialStructureSpec.needs

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
        scaling = ChannelScaling.of(latents, "spatial-structure")
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
            values=SampleValues.of_samples(places, values.tolist()),
        )


def _matching(frames: torch.Tensor, count: int) -> torch.Tensor:
    """As many frames as there are latent ones, evenly spaced: a causal autoencoder shortens time."""
    if len(frames) == count:
        return frames
    places = torch.linspace(0, len(frames) - 1, count).round().long()
    return frames[places.to(frames.device)]
