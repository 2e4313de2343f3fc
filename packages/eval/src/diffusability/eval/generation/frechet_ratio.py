"""FDr^k: how much farther generated images are from real ones than other real images are."""

import math
from collections.abc import Callable, Mapping, Sequence

import attrs

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.features.feature_cache import FeatureCache
from diffusability.eval.features.feature_sets import feature_cache, shared_features
from diffusability.eval.generation.frechet_gaussian import FrechetGaussian
from diffusability.eval.specs.frechet_ratio import RATIO_GROUPS, FDrSpec
from diffusability.eval.streaming.gaussian_statistics import GaussianStatistics
from diffusability.eval.streaming.grouped_statistics import GroupedStatistics
from diffusability.eval.streaming.jackknife import spread_of

#: The sets: real images, generated ones, and (where there are some) held-out real ones.
_SETS = ("real", "generated", "held_out")


@attrs.frozen(kw_only=True, eq=False)
class NetworkStatistics:
    """What one network sees of the sets, by groups of places."""

    sets: Mapping[str, GroupedStatistics]

    @classmethod
    def empty(cls, num_groups: int) -> "NetworkStatistics":
        """Of nothing yet."""
        return cls(sets={name: GroupedStatistics(num_groups) for name in _SETS})

    def on_cpu(self) -> "NetworkStatistics":
        """A copy that other processes can read."""
        return NetworkStatistics(sets={name: groups.on_cpu() for name, groups in self.sets.items()})

    def merge(self, other: "NetworkStatistics") -> None:
        """Adds what another rank has seen."""
        for name, groups in self.sets.items():
            groups.merge(other.sets[name])

    def gaussian(self, name: str, without: int | None, half: int | None = None) -> FrechetGaussian:
        """Of a set, or its half of even (0) or odd (1) places, without a group. Raises DataError of too few images."""
        joined = GaussianStatistics()
        for number, group in enumerate(self.sets[name].groups):
            if number != without and half in (None, number % 2):
                joined.merge(group)
        return FrechetGaussian.from_statistics(joined)


def ratio_to_held_out(statistics: NetworkStatistics, without: int | None = None) -> float:
    """``FD(generated, real) / FD(held out, real)``. Raises DataError where the held-out images are the real ones."""
    real, generated, held_out = (statistics.gaussian(name, without) for name in _SETS)
    return _ratio(generated.distance(real), held_out.distance(real))


def ratio_of_halves(statistics: NetworkStatistics, without: int | None = None) -> float:
    """The same where each half of the real images takes the part of the held-out ones for the other half.

    Mean over both ways round; the generated images of the same places as the held-out half stand against it, so that
    numerator and denominator are of equally many images.
    """
    real, generated = ([statistics.gaussian(name, without, half) for half in (0, 1)] for name in _SETS[:2])
    between = real[0].distance(real[1])
    return (_ratio(generated[1].distance(real[0]), between) + _ratio(generated[0].distance(real[1]), between)) / 2


def _ratio(distance: float, floor: float) -> float:
    if floor <= 0:
        raise DataError("fdr: the held-out images have the same statistics as the real ones; expected other images")
    return distance / floor


class FDr(Evaluator):
    """``fdr``, the mean over k networks, and ``fdr_FEATURES`` of each.

    ``FDr^k = 1/k sum_i FD_i(generated, train) / FD_i(validation, train)`` (arXiv 2604.28190). 1: generated images are
    no farther from the training images than other real images are. The ratio takes the units out of distances, so that
    networks can be averaged, and most of what few images add to numerator and denominator alike.

    Memory is a covariance in float64 for each network, set and group of images, whatever the number of images: 0.8 GB
    for three networks of 1,280 features, three sets and ten groups (a third without spread).
    """

    def __init__(self, spec: FDrSpec, cache: FeatureCache | None = None) -> None:
        """Makes it; ``cache`` keeps the features of real images."""
        self.spec = spec
        self._cache = cache
        self._networks = [shared_features(network) for network in spec.features]
        self._asked = RATIO_GROUPS if spec.jackknife_groups is None else spec.jackknife_groups
        self._seen = [NetworkStatistics.empty(max(self._asked, 2)) for _ in self._networks]

    @classmethod
    def from_spec(cls, spec: FDrSpec, context: BuildContext) -> "FDr":
        return cls(spec, feature_cache(context))

    def expect(self, num_samples: int) -> None:
        for network in self._networks:
            reason = self.spec.too_few(network.extractor.dimension, num_samples)
            if reason is not None:
                raise DataError(reason)

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch. Raises DataError when images differ in size or features are not finite."""
        tensors = {"real": batch.images, "generated": batch.generated, "held_out": batch.held_out}
        sizes = {tuple(images.shape[-2:]) for images in tensors.values() if images is not None}
        if len(sizes) > 1:
            raise DataError(f"fdr compares images of one size, got {sorted(sizes)}; resizing would be part of it")
        for network, seen in zip(self._networks, self._seen, strict=True):
            for name, images in tensors.items():
                if images is not None and len(images):
                    places = batch.indices[: len(images)]  # of held-out images some may have been unreadable
                    cache = None if name == "generated" else self._cache
                    seen.sets[name].update(network.extract(images, places, self.spec.seed, cache), places)

    def state(self) -> Sequence[NetworkStatistics]:
        return [seen.on_cpu() for seen in self._seen]

    def merge(self, state: Sequence[NetworkStatistics]) -> None:
        for own, theirs in zip(self._seen, state, strict=True):
            own.merge(theirs)

    def compute(self) -> list[EvalResult]:
        """The ratios. Raises DataError when there are too few images."""
        counts = {name: self._seen[0].sets[name].count for name in _SETS}
        self.expect(min(count for name, count in counts.items() if name != "held_out" or "held_out" in self._needed))
        ratio: Callable[[NetworkStatistics, int | None], float] = (
            ratio_to_held_out if self.spec.held_out == "split" else ratio_of_halves
        )
        whole = [ratio(seen, None) for seen in self._seen]
        left_out = [self._left_out(seen, ratio) for seen in self._seen]
        results = [self._result("fdr", whole, left_out, counts)]
        if len(self._networks) > 1:
            for network, value, rest in zip(self.spec.features, whole, left_out, strict=True):
                results.append(self._result(f"fdr_{network.label()}", [value], [rest], counts))
        return results

    @property
    def _needed(self) -> frozenset[str]:
        return self.spec.needed()

    def _left_out(
        self, seen: NetworkStatistics, ratio: Callable[[NetworkStatistics, int | None], float]
    ) -> Sequence[float] | None:
        """The ratio without each group of places, of all sets at once; None where there is no spread."""
        used = [seen.sets[name] for name in _SETS if name != "held_out" or "held_out" in self._needed]
        fewest = min(group.count for groups in used for group in groups.groups)
        if not self._asked or (fewest < 2 and self.spec.jackknife_groups is None):
            return None
        return [ratio(seen, number) for number in range(self._asked)]

    def _result(
        self,
        metric: str,
        values: Sequence[float],
        left_out: Sequence[Sequence[float] | None],
        counts: Mapping[str, int],
    ) -> EvalResult:
        value = math.fsum(values) / len(values)
        rest = [row for row in left_out if row is not None]
        kept: SampleValues | None = None
        if len(rest) == len(values):
            of_groups = [math.fsum(column) / len(values) for column in zip(*rest, strict=True)]
            sizes = [group.count for group in self._seen[0].sets["generated"].groups]
            kept = SampleValues.without_groups(range(self._asked), of_groups, sizes)
        return EvalResult(
            metric=metric,
            value=value,
            spread=spread_of(kept, value),
            higher_is_better=False,
            num_samples=counts["generated"],
            spec=self._settings(counts, kept is not None),
            values=kept,
            note=self._note(counts),
        )

    def _note(self, counts: Mapping[str, int]) -> str:
        others = counts["held_out"]
        if self.spec.held_out == "halves" or others == counts["generated"]:
            return ""
        return (
            f"{counts['generated']:,} generated images stand against {others:,} held-out ones: the smaller set is"
            " farther from the real images by its number alone"
        )

    def _settings(self, counts: Mapping[str, int], has_spread: bool) -> dict[str, object]:
        settings: dict[str, object] = {
            "networks": [network.settings() for network in self._networks],
            "num_networks": len(self._networks),
            "held_out": self.spec.held_out,
            "num_real": counts["real"],
        }
        if self.spec.held_out == "split":
            settings["num_held_out"] = counts["held_out"]
        if self.spec.force:
            settings["forced"] = True
        if has_spread:
            settings["spread_over"] = f"jackknife of {self._asked} groups of images"
        return settings
