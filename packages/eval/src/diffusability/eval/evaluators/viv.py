"""Velocity irreducible variance of latents."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
from diffusability.eval.jackknife import jackknife_spread
from diffusability.eval.predictor_specs import VIVSpec
from diffusability.eval.predictors.standardization import ChannelScaling, standardized
from diffusability.eval.predictors.velocity_variance import (
    KroneckerCovariance,
    integrated_irreducible_variance,
    irreducible_variance,
    kronecker_covariance,
    spatial_frequencies,
    trajectory_curvature,
)
from diffusability.eval.sample_table import SampleTable

CURVE_TIMES = 41


def centre(latents: Float[Tensor, "n c *t h w"], side: int) -> Float[Tensor, "n c *t h2 w2"]:
    """The central window of at most ``side`` by ``side`` places."""
    height, width = latents.shape[-2:]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return latents[..., top : top + side, left : left + side]


class VIV(Evaluator):
    """``viv``, ``viv_curve`` and ``trajectory_straightness`` of latents whose channels have unit variance.

    The latents (of each class, where the data has classes with ``min_class_samples`` samples) are modelled as a
    Gaussian with covariance ``S_space (x) S_channel``. ``viv`` is the integral over uniform times of the variance of
    the velocity given the noisy latents, per dimension (arXiv 2606.03578, equation 5): pi / 2 for white latents, less
    for latents that are compact within their class or anisotropic. Averaged over classes; ``viv_unconditional`` is then
    that of all classes as one Gaussian. ``trajectory_straightness`` is the mean squared deviation of the exact
    probability flow from straight lines (Liu et al. 2023): 0 is straight. Lower is better for all of them.

    With few samples the covariance is shrunk (``predictors.velocity_variance``); below ``(N - 1) C = H W`` (N of the
    smallest class) the results carry a note. Constant channels are left out. The spread is that of a jackknife over
    ``num_replicates`` groups of samples.

    It keeps the latents of ``num_samples`` images (their central ``max_side`` places a side) in float32.
    """

    needs = VIVSpec.needs

    def __init__(self, spec: VIVSpec) -> None:
        self.spec = spec
        self._table = SampleTable("viv")

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch."""
        assert batch.latents is not None
        columns: dict[str, Tensor] = {"latents": centre(batch.latents.float(), self.spec.max_side)}
        if batch.labels is not None:
            columns["labels"] = batch.labels
        self._table.add(batch.indices, columns)

    def state(self) -> Any:
        return self._table.state()

    def merge(self, state: Any) -> None:
        self._table.merge(state)

    def _fit(self, latents: Float[Tensor, "n c s"]) -> KroneckerCovariance:
        return kronecker_covariance(latents, self.spec.num_iterations)

    def compute(self) -> list[EvalResult]:
        columns = self._table.columns()
        count = len(self._table)
        if count < 2:
            raise DataError(f"viv needs at least two samples to estimate a covariance, got {count}")
        scaling = ChannelScaling.of(columns["latents"], "viv")
        latents = spatial_frequencies(scaling(columns["latents"]))
        labels = columns.get("labels")
        groups = self._groups(labels)
        whole = self._fit(latents)
        overall = whole.eigenvalues()
        fits = [self._fit(latents[group]) for group in groups] or [whole]
        spectra = [fit.eigenvalues() for fit in fits]
        members = groups or [torch.arange(count)]

        num_groups = min(self.spec.num_replicates, count)

        def without(left_out: int) -> float | None:
            """One iteration from the fit of the whole is enough for a sample that is so near to it."""
            kept = torch.arange(count) % num_groups != left_out
            part = spatial_frequencies(standardized(columns["latents"][kept], "viv"))
            place = kept.cumsum(0) - 1
            values = []
            for group, fit in zip(members, fits, strict=True):
                chosen = part[place[group[kept[group]]]]
                if len(chosen) > 1:
                    again = kronecker_covariance(chosen, 1, start=fit if len(chosen[0]) == len(fit.channel) else None)
                    values.append(integrated_irreducible_variance(again.eigenvalues()))
            return _mean(values) if values else None

        left_out = [without(group) for group in range(num_groups)] if count > 2 else []
        parts = [value for value in left_out if value is not None]
        spread = jackknife_spread(parts) if len(parts) == len(left_out) > 1 else None
        settings = {
            "conditional": bool(groups),
            "num_classes": len(groups),
            "dimension": len(overall),
            "num_iterations": self.spec.num_iterations,
        }
        note = "; ".join(filter(None, [scaling.note, _of_few(members, fits)]))
        times = [place / (CURVE_TIMES - 1) for place in range(CURVE_TIMES)]
        results = [
            EvalResult(
                metric="viv",
                value=_mean([integrated_irreducible_variance(values) for values in spectra]),
                higher_is_better=False,
                num_samples=count,
                spread=spread,
                spec=settings | {"spread_over": f"jackknife over {num_groups} groups"},
                note=note,
            ),
            EvalResult(
                metric="trajectory_straightness",
                value=_mean([trajectory_curvature(values) for values in spectra]),
                higher_is_better=False,
                num_samples=count,
                spec=settings,
                note=note,
            ),
            EvalResult(
                metric="viv_curve",
                curve=Curve(
                    x=times,
                    y=[_mean([irreducible_variance(values, time) for values in spectra]) for time in times],
                    x_label="time (0 data, 1 noise)",
                    y_label="irreducible velocity variance per dimension",
                ),
                num_samples=count,
                spec=settings,
            ),
        ]
        if groups:
            results.append(
                EvalResult(
                    metric="viv_unconditional",
                    value=integrated_irreducible_variance(overall),
                    higher_is_better=False,
                    num_samples=count,
                    spec=settings | {"conditional": False},
                    note=scaling.note,
                )
            )
        return results

    def _groups(self, labels: Tensor | None) -> list[Tensor]:
        """Places of the samples of each class that has enough of them; none where a single class has."""
        if labels is None:
            return []
        groups = [(labels == label).nonzero().flatten() for label in sorted(set(labels.tolist()))]
        groups = [group for group in groups if len(group) >= self.spec.min_class_samples]
        return groups if len(groups) > 1 else []


def _of_few(members: list[Tensor], fits: list[KroneckerCovariance]) -> str:
    """A note where the samples do not determine the covariance of places by themselves."""
    fewest, fit = min(zip(members, fits, strict=True), key=lambda pair: len(pair[0]))
    degrees, places = (len(fewest) - 1) * len(fit.channel), len(fit.space)
    if degrees >= places:
        return ""
    return (
        f"few samples: (N - 1) C / (H W) = {degrees / places:.2g} of the smallest class, below 1; correlations of"
        f" places are shrunk by {fit.shrinkage:.0%} to those of stationary latents, which may make the value too large"
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
