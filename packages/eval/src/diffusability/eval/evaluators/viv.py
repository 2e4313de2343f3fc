"""Velocity irreducible variance of latents."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.errors import DataError
from diffusability.core.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
from diffusability.core.sample_values import SampleValues
from diffusability.eval.jackknife import spread_of, without_each_group_of_all
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
        rest = self._left_out(columns["latents"], whole, list(zip(members, fits, strict=True)))
        settings = {
            "conditional": bool(groups),
            "num_classes": len(groups),
            "dimension": len(overall),
            "num_iterations": self.spec.num_iterations,
        }
        note = "; ".join(filter(None, [scaling.note, _of_few(members, fits)]))
        over = {"spread_over": f"jackknife of {self.spec.num_replicates} groups of images"} if rest else {}
        times = [place / (CURVE_TIMES - 1) for place in range(CURVE_TIMES)]
        results = [
            EvalResult(
                metric="viv",
                value=(value := _mean([integrated_irreducible_variance(values) for values in spectra])),
                higher_is_better=False,
                num_samples=count,
                spread=spread_of(rest.get("viv"), value),
                spec=settings | over,
                values=rest.get("viv"),
                note=note,
            ),
            EvalResult(
                metric="trajectory_straightness",
                value=(straightness := _mean([trajectory_curvature(values) for values in spectra])),
                higher_is_better=False,
                num_samples=count,
                spread=spread_of(rest.get("trajectory_straightness"), straightness),
                spec=settings | over,
                values=rest.get("trajectory_straightness"),
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
                    value=(unconditional := integrated_irreducible_variance(overall)),
                    higher_is_better=False,
                    num_samples=count,
                    spread=spread_of(rest.get("viv_unconditional"), unconditional),
                    spec=settings | over | {"conditional": False},
                    values=rest.get("viv_unconditional"),
                    note=scaling.note,
                )
            )
        return results

    def _left_out(
        self, latents: Tensor, whole: KroneckerCovariance, fits: Sequence[tuple[Tensor, KroneckerCovariance]]
    ) -> Mapping[str, SampleValues | None]:
        """The numbers without each group of samples, by metric; none of fewer than two groups.

        Channels are standardised without the group too. One iteration from the fit of the whole is enough for samples
        that are so near to it.
        """
        num_groups = self.spec.num_replicates
        if num_groups < 2:
            return {}
        groups = torch.tensor(self._table.indices) % num_groups

        def numbers(left_out: int | None) -> dict[str, float]:
            stays = groups != (-1 if left_out is None else left_out)
            if int(stays.sum()) < 2:
                raise DataError("viv without a group of samples needs at least two others")
            part = spatial_frequencies(standardized(latents[stays], "viv"))
            places = stays.cumsum(0) - 1

            def eigenvalues(members: Tensor, fit: KroneckerCovariance) -> Tensor:
                start = fit if part.shape[1] == len(fit.channel) else None
                return kronecker_covariance(part[places[members]], 1, start=start).eigenvalues()

            remaining = [(members[stays[members]], fit) for members, fit in fits]
            spectra = [eigenvalues(members, fit) for members, fit in remaining if len(members) > 1]
            if not spectra:
                raise DataError("viv without a group of samples needs a class with at least two others")
            found = {
                "viv": _mean([integrated_irreducible_variance(values) for values in spectra]),
                "trajectory_straightness": _mean([trajectory_curvature(values) for values in spectra]),
            }
            if len(fits) > 1:
                everything = eigenvalues(stays.nonzero().flatten(), whole)
                found["viv_unconditional"] = integrated_irreducible_variance(everything)
            return found

        return without_each_group_of_all(self._table.indices, numbers, num_groups)[1]

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
