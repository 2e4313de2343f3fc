"""Velocity irreducible variance of latents."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.errors import DataError
from diffusability.core.numerics.dct import dct2
from diffusability.eval.predictors.standardization import ChannelScaling, standardized
from diffusability.eval.specs.predictors import VIVSpec
from diffusability.eval.streaming.jackknife import spread_of, without_each_group_of_all
from diffusability.eval.streaming.sample_table import SampleTable

#: Added to the eigenvalues of a factor, as a share of their mean, so that rounding leaves it positive definite.
RIDGE = 1e-9


@attrs.frozen(kw_only=True, eq=False)
class KroneckerCovariance:
    """``S = space (x) channel``, both symmetric; their product has the variance of the sample it was fitted to.

    Attributes:
        space: covariance of places.
        channel: covariance of channels.
        shrinkage: how far the places' correlations were shrunk, from 0 (as in the sample) to 1 (to the diagonal).
    """

    space: Float[Tensor, "s s"]
    channel: Float[Tensor, "c c"]
    shrinkage: float = 0.0

    def eigenvalues(self) -> Float[Tensor, " d"]:
        """All ``s * c`` eigenvalues, unsorted, not negative."""
        space = torch.linalg.eigvalsh(self.space).clamp_min(0)
        channel = torch.linalg.eigvalsh(self.channel).clamp_min(0)
        return torch.outer(space, channel).flatten()


def spatial_frequencies(latents: Float[Tensor, "n c *t h w"]) -> Float[Tensor, "n c s"]:
    """Orthonormal DCTs of whole maps in float64, all places and frames in one axis.

    A rotation of the places, which leaves the eigenvalues of their covariance as they are, into a basis where the
    covariance of stationary maps is nearly diagonal (Ahmed, Natarajan & Rao 1974): what ``kronecker_covariance``
    shrinks to.
    """
    return dct2(latents.double()).flatten(2)


def shrunk_covariance(rows: Float[Tensor, "n k"], degrees: int) -> tuple[Float[Tensor, "k k"], float]:
    """Covariance of rows of mean 0 whose correlations are shrunk to 0, and how far, in [0, 1].

    Schafer & Strimmer 2005 ("A shrinkage approach to large-scale covariance matrix estimation"), target D: variances
    stay, correlations are multiplied by ``1 - sum Var(r_ij) / sum r_ij^2``, the choice of least expected squared error
    (Ledoit & Wolf 2004), estimated from the rows themselves.

    Args:
        rows: ``n`` vectors, less their mean.
        degrees: how many independent ones they are worth: the divisor of the covariance.
    """
    count = len(rows)
    covariance = rows.T @ rows / degrees
    deviation = covariance.diagonal().clamp_min(1e-300).sqrt()
    correlation = covariance / deviation / deviation[:, None]
    off = (correlation.square().sum() - correlation.diagonal().square().sum()).item()
    # Scaled to rows of unit variance; sums over i != j of products of squares, without making the products.
    squares = (rows / deviation).square() * (count / degrees)
    products = (squares.sum(1).square().sum() - squares.square().sum()).item() / count
    noise = max(0.0, products - off) / max(1, degrees - 1)
    shrinkage = min(1.0, noise / off) if off > 0 else 1.0
    kept = correlation * (1 - shrinkage)
    kept.diagonal().copy_(correlation.diagonal())
    return kept * deviation * deviation[:, None], shrinkage


def kronecker_covariance(
    latents: Float[Tensor, "n c s"], num_iterations: int = 5, start: KroneckerCovariance | None = None
) -> KroneckerCovariance:
    """Fits ``S_space (x) S_channel`` by the flip-flop algorithm (Dutilleul 1999), scaled to the total variance.

    Each iteration estimates the channels' covariance from latents that are white in space, and the other way round,
    from ``start`` on (default: white in space). Both are shrunk towards their diagonals (``shrunk_covariance``): with
    few samples the eigenvalues of a sample covariance are spread far more than the true ones, and the mean of their
    roots is far too small. Covariances have the divisor ``n - 1``. Diagonals depend on the basis: take latents in
    ``spatial_frequencies``.

    Raises:
        ValueError: fewer than two samples.
    """
    count, channels, places = latents.shape
    if count < 2:
        raise ValueError(f"a covariance needs at least two samples, got {count}")
    centred = latents - latents.mean(0, keepdim=True)
    total = centred.square().sum() / (count - 1)
    # Both views once: rows are places or channels, columns all the rest.
    by_place = centred.permute(2, 0, 1).reshape(places, count * channels)
    by_channel = centred.permute(1, 0, 2).reshape(channels, count * places)
    space: Tensor = start.space if start is not None else torch.eye(places, dtype=latents.dtype, device=latents.device)
    channel: Tensor = torch.eye(channels, dtype=latents.dtype, device=latents.device)
    shrinkage = 0.0
    for _ in range(num_iterations):
        white = torch.linalg.solve_triangular(_factor(space), by_place, upper=False).reshape(-1, channels)
        channel, _ = shrunk_covariance(white, (count - 1) * places)
        white = torch.linalg.solve_triangular(_factor(channel), by_channel, upper=False)
        space, shrinkage = shrunk_covariance(white.reshape(channels * count, places), (count - 1) * channels)
    scale = total / (space.trace() * channel.trace()).clamp_min(1e-300)
    return KroneckerCovariance(space=space * scale, channel=channel, shrinkage=shrinkage)


def _factor(covariance: Float[Tensor, "k k"]) -> Float[Tensor, "k k"]:
    """Lower Cholesky factor after the ridge."""
    size = len(covariance)
    ridge = RIDGE * covariance.trace() / size + 1e-300
    identity = torch.eye(size, dtype=covariance.dtype, device=covariance.device)
    factor: Tensor = torch.linalg.cholesky(covariance + ridge * identity)
    return factor


def irreducible_variance(eigenvalues: Float[Tensor, " d"], time: float) -> float:
    """``I(t) = mean_i l_i / (t^2 + (1-t)^2 l_i)``: the mean variance of ``eps - z`` per dimension given ``z_t``.

    Equation 4 with time reversed, divided by the dimension. A direction without variance has none: its velocity is
    known from ``z_t``.
    """
    positive = eigenvalues[eigenvalues > 0]
    return (positive / (time**2 + (1 - time) ** 2 * positive)).sum().item() / len(eigenvalues)


def integrated_irreducible_variance(eigenvalues: Float[Tensor, " d"]) -> float:
    """``(pi / 2) mean_i sqrt(l_i)``, the integral of ``irreducible_variance`` over uniform times (equation 5).

    White latents of unit variance give pi / 2.
    """
    return math.pi / 2 * eigenvalues.clamp_min(0).sqrt().mean().item()


def trajectory_curvature(eigenvalues: Float[Tensor, " d"], num_times: int = 512) -> float:
    """Mean squared deviation per dimension of the velocity from the straight line between the ends of its trajectory.

    ``S = int_0^1 E |(z_1 - z_0) - v(z_t, t)|^2 dt / d`` (Liu et al. 2023, "Flow Straight and Fast", section 2.2), along
    the exact probability-flow ODE of a Gaussian: a direction of variance ``l`` follows
    ``s(t) = sqrt((1-t)^2 l + t^2)``. 0 is straight. By the midpoint rule.
    """
    time = (torch.arange(num_times, dtype=torch.float64) + 0.5) / num_times
    variance = eigenvalues.double().clamp_min(0).cpu()[:, None]
    scale = ((1 - time) ** 2 * variance + time**2).sqrt()
    slope = (time - (1 - time) * variance) / scale
    return (1 - variance.sqrt() - slope).square().mean().item()


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
    smallest class) the results carry a note. Constant channels are left out. Spreads are those of a jackknife over
    ``num_replicates`` groups: sample i is in group ``i mod num_replicates``, and channels are scaled without it too.

    It keeps the latents of ``num_samples`` images (their central ``max_side`` places a side) in float32.
    """

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
        scaling = ChannelScaling.from_latents(columns["latents"], "viv")
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
            metrics = {
                "viv": _mean([integrated_irreducible_variance(values) for values in spectra]),
                "trajectory_straightness": _mean([trajectory_curvature(values) for values in spectra]),
            }
            if len(fits) > 1:
                everything = eigenvalues(stays.nonzero().flatten(), whole)
                metrics["viv_unconditional"] = integrated_irreducible_variance(everything)
            return metrics

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
        f"few samples: (N - 1) C / (H W) = {degrees / places:.2g} of the smallest class, below 1, so that correlations"
        f" of places are shrunk by {fit.shrinkage:.0%} to those of stationary latents, which may make the value too"
        " large"
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
