"""Spatial structure of latents."""

from typing import Any

import torch

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
from diffusability.eval.sample_table import SampleTable


class SpatialStructure(Evaluator):
    """``lds``, ``cds`` and ``srss`` of raw latents (Singh et al. 2025, arXiv 2512.10794), means over images.

    More is better in the comparison of arXiv 2606.03578. The foreground that ``srss`` needs is a stand-in: Otsu's
    threshold on luminance (``foreground`` in the results' spec says so). Images without a pair of places as far apart
    as ``far`` are left out, and a metric that no image has is not reported. Of clips, the mean over frames.
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
        distances = manhattan_distances(height, width).to(batch.latents.device)
        rows: dict[str, list[torch.Tensor]] = {"lds": [], "cds": [], "srss": []}
        for image, latent in zip(
            batch.images, batch.latents, strict=True
        ):  # one by one: a pair of places takes 8 bytes
            maps, pictures = as_frames(latent[None]), as_frames(image[None])
            similarities = cosine_similarities(maps)
            foreground = luminance_foreground(_matching(pictures, len(maps)), height, width)
            means, counts = mean_by_distance(similarities, distances)
            rows["lds"].append(local_distant_similarity(means, counts, self.spec.far).mean())
            rows["cds"].append(correlation_decay_slope(means, self.spec.longest).mean())
            rows["srss"].append(
                region_self_similarity(similarities, distances, foreground, far=self.spec.far).nanmean()
            )
        self._table.add(batch.indices, {name: torch.stack(values) for name, values in rows.items()})

    def state(self) -> Any:
        return self._table.state()

    def merge(self, state: Any) -> None:
        self._table.merge(state)

    def compute(self) -> list[EvalResult]:
        results = []
        for metric, column in self._table.columns().items():
            is_known = column.isfinite()
            values = column[is_known]
            places = [index for index, known in zip(self._table.indices, is_known.tolist(), strict=True) if known]
            if len(values) == 0:
                continue
            settings: dict[str, Any] = {"far": self.spec.far, "spread_over": "200 bootstrap samples"}
            if metric == "cds":
                settings["longest"] = self.spec.longest
            if metric == "srss":
                settings["foreground"] = "Otsu's threshold on luminance"
            results.append(
                EvalResult(
                    metric=metric,
                    value=values.mean().item(),
                    higher_is_better=True,
                    num_samples=len(values),
                    spread=spread_of_mean(values),
                    spec=settings,
                    values=SampleValues.of_samples(places, values.tolist()),
                )
            )
        return results


def _matching(frames: torch.Tensor, count: int) -> torch.Tensor:
    """As many frames as there are latent ones, evenly spaced: a causal autoencoder shortens time."""
    if len(frames) == count:
        return frames
    places = torch.linspace(0, len(frames) - 1, count).round().long()
    return frames[places.to(frames.device)]
