"""Frechet distance of generated images, or of reconstructions, to real images."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.errors import DataError
from diffusability.core.shapes import Images
from diffusability.core.specs.build_context import BuildContext
from diffusability.eval.features.feature_cache import FeatureCache
from diffusability.eval.features.feature_sets import feature_cache, shared_features
from diffusability.eval.generation.frechet_gaussian import FrechetGaussian
from diffusability.eval.generation.reference_statistics import (
    POOLED,
    SPATIAL,
    ReferenceStatistics,
    read_reference,
    write_reference,
)
from diffusability.eval.generation.small_sample_bias import NEAR, PARTS, bias_note, small_sample_bias
from diffusability.eval.specs.generation import JACKKNIFE_GROUPS, FrechetSettings, too_few
from diffusability.eval.specs.generation_metrics import ABOVE_FLOOR, FLOOR
from diffusability.eval.streaming.gaussian_statistics import GaussianStatistics
from diffusability.eval.streaming.grouped_statistics import GroupedStatistics
from diffusability.eval.streaming.jackknife import spread_of


def frechet_distance(
    first_mean: Float[Tensor, " d"],
    first_covariance: Float[Tensor, "d d"],
    second_mean: Float[Tensor, " d"],
    second_covariance: Float[Tensor, "d d"],
) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians, in float64; see ``FrechetGaussian.distance``."""
    first = FrechetGaussian.from_moments(first_mean, first_covariance)
    return first.distance(FrechetGaussian.from_moments(second_mean, second_covariance))


#: Statistics of the real and of the other images, the same by groups that are left out, and the size of images.
Seen = tuple[GroupedStatistics, GroupedStatistics, tuple[GroupedStatistics, ...], tuple[int, int] | None]
#: Names of the sets whose groups are kept, in this order.
_REAL, _OTHER, _FLOOR = range(3)


class Frechet(Evaluator):
    """``fid``, ``sfid``, ``fdd``, ``fvd`` or ``frechet_FEATURES``; of reconstructions ``rfid`` and so on.

    The squared Frechet distance between Gaussians fitted to the features of the two sets (Heusel et al. 2017). Memory
    is 8 covariances in float64, and 20 for the spread, whatever the number of images. Real images are the stage's, or a
    file with their statistics stands for them.

    With few images, up to five for each feature, the result's ``note`` says how much of the distance comes of their
    number (``small_sample_bias``), measured on the real images, or on the others where the reference is a file. The
    distance itself is not corrected, since it is compared with others' numbers.

    With ``floor``, ``fid_floor`` and ``fid_above_floor`` are beside ``fid``: the distance of the reconstructions of the
    same real images, which is what the autoencoder alone takes away, and the difference.

    The spread is found by leaving out each K-th of the images in turn, of both sets at once (of the other one, where
    the reference is a file: its images are taken as given). It takes K covariances of each set and K more distances. K
    is ``jackknife_groups``, or else 10; then sets of fewer than 20 images have no spread.
    """

    def __init__(self, spec: FrechetSettings, cache: FeatureCache | None = None) -> None:
        """Makes it; ``cache`` keeps the features of real images. Raises DataError for a reference of other features."""
        self.spec = spec
        self._cache = cache
        self.needs = spec.needed()
        self._features = shared_features(spec.features)
        self._names = SPATIAL if spec.features.frechet_name() == "sfid" else POOLED
        self._real, self._other = (GroupedStatistics(PARTS) for _ in range(2))
        self._num_groups = JACKKNIFE_GROUPS if spec.jackknife_groups is None else spec.jackknife_groups
        self._floor = GroupedStatistics(1) if getattr(spec, "floor", False) else None
        sets = 2 if self._floor is None else 3
        self._left_out = tuple(GroupedStatistics(self._num_groups) for _ in range(sets))
        self._size: tuple[int, int] | None = None
        self._reference = None if spec.reference is None else read_reference(spec.reference, self._names)
        if self._reference is not None:
            self._check(self._reference)

    @classmethod
    def from_spec(cls, spec: FrechetSettings, context: BuildContext) -> "Frechet":
        return cls(spec, feature_cache(context))

    def _check(self, reference: ReferenceStatistics) -> None:
        """Refuses statistics of other features."""
        length = self._features.extractor.dimension
        if len(reference.mean) != length:
            raise DataError(
                f"{reference.source}: statistics of {len(reference.mean)} features; features"
                f" {self.spec.features.kind!r} have {length}: they were made with others"
            )
        own = self._features.settings()
        if reference.settings is not None and dict(reference.settings) != own:
            keys = sorted(key for key in own | dict(reference.settings) if reference.settings.get(key) != own.get(key))
            differing = ", ".join(f"{key} {reference.settings.get(key)!r} instead of {own.get(key)!r}" for key in keys)
            raise DataError(f"{reference.source}: statistics made with other features: {differing}")
        if reference.count is not None and reference.count <= length and not self.spec.force:
            raise DataError(f"{reference.source}: {too_few(self.spec.metric(), reference.count, length)}")

    def expect(self, num_samples: int) -> None:
        length = self._features.extractor.dimension
        if num_samples <= length and not self.spec.force:
            raise DataError(too_few(self.spec.metric(), num_samples, length))

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch, which may hold images of one set only.

        Raises:
            DataError: images differ in size between or within the sets, or their features are not finite.
        """
        other = self._compared(batch)
        if self._reference is None and batch.images is not None:
            self._expect_size(batch.images, "real")
            features = self._features.extract(batch.images, batch.indices, self.spec.seed, self._cache)
            self._real.update(features, batch.indices)
            self._left_out[_REAL].update(features, batch.indices)
        if self._floor is not None and batch.reconstruction is not None:
            self._expect_size(batch.reconstruction, "reconstructed")
            features = self._features.extract(batch.reconstruction, batch.indices, self.spec.seed)
            self._floor.update(features, batch.indices)
            self._left_out[_FLOOR].update(features, batch.indices)
        if other is None:
            return
        self._expect_size(other, self.spec.compares)
        features = self._features.extract(other, batch.indices, self.spec.seed)
        self._other.update(features, batch.indices)
        self._left_out[_OTHER].update(features, batch.indices)

    def _compared(self, batch: EvaluationBatch) -> Images | None:
        return batch.reconstruction if self.spec.compares == "reconstruction" else batch.generated

    def _expect_size(self, images: Images, what: str) -> None:
        size = (images.shape[-2], images.shape[-1])
        expected = self._size or (None if self._reference is None else self._reference.image_size)
        if expected is not None and size != expected:
            raise DataError(
                f"{self.spec.metric()} compares images of one size: got {what} images of {size[0]}x{size[1]} where"
                f" others are {expected[0]}x{expected[1]}; resizing would be part of the number"
            )
        self._size = size

    def state(self) -> Seen:
        further = () if self._floor is None else (self._floor,)
        kept = (self._real, self._other, *self._left_out, *further)
        real, other, *rest = (statistics.on_cpu() for statistics in kept)
        return real, other, tuple(rest), self._size

    def merge(self, state: Seen) -> None:
        """Adds what another rank has seen.

        Raises:
            DataError: its images were of another size.
        """
        real, other, left_out, size = state
        if size is not None and self._size is not None and size != self._size:
            raise DataError(f"{self.spec.metric()} compares images of one size: got {size!r} and {self._size!r}")
        self._size = self._size or size
        self._real.merge(real)
        self._other.merge(other)
        further = () if self._floor is None else (self._floor,)
        for own, theirs in zip((*self._left_out, *further), left_out, strict=True):
            own.merge(theirs)

    def compute(self) -> list[EvalResult]:
        reference = self._reference or self._own_reference()
        if self._other.count < 2:
            raise DataError(f"{self.spec.metric()} needs at least two images of each set, got {self._other.count}")
        length = self._features.extractor.dimension
        if self._other.count <= length and not self.spec.force:  # images may have turned out to be unreadable
            raise DataError(too_few(self.spec.metric(), self._other.count, length))
        value = _distance(reference, self._other.whole())
        values = self._values(_OTHER)
        bias = self._bias(reference)
        fewest = min(self._other.count, reference.count or self._other.count)
        result = EvalResult(
            metric=self.spec.metric(),
            value=value,
            spread=spread_of(values, value),
            higher_is_better=False,
            num_samples=self._other.count,
            spec=self._settings(reference, values),
            values=values,
            note="" if bias is None else bias_note(bias, fewest, length),
        )
        return [result, *self._beside_floor(result, reference)]

    def _beside_floor(self, result: EvalResult, reference: ReferenceStatistics) -> list[EvalResult]:
        """The distance of the reconstructions of the same real images, and how far above it the other one is.

        Both are of equally many images against one reference, so the difference loses what few images add to each.
        """
        if self._floor is None or result.value is None:
            return []
        floor = _distance(reference, self._floor.whole())
        floors = self._values(_FLOOR)
        above = None
        if floors is not None and result.values is not None:
            rest = (result.values.values - floors.values).tolist()
            counts = [group.count for group in self._left_out[_OTHER].groups]
            above = SampleValues.without_groups(range(self._num_groups), rest, counts)
        name, gap = self.spec.metric(), result.value - floor
        numbers = ((FLOOR, floor, floors, self._floor.count), (ABOVE_FLOOR, gap, above, result.num_samples))
        return [
            EvalResult(
                metric=f"{name}{suffix}",
                value=value,
                spread=spread_of(values, value),
                higher_is_better=False,
                num_samples=count,
                spec=result.spec,
                values=values,
            )
            for suffix, value, values, count in numbers
        ]

    def _bias(self, reference: ReferenceStatistics) -> float | None:
        """How much of the distance is due to small sets; None where they are not small, or too small to tell."""
        counts = [count for count in (self._other.count, reference.count) if count is not None]
        if min(counts) > NEAR * self._features.extractor.dimension:
            return None
        bias = small_sample_bias(self._real if self._reference is None else self._other, _distance)
        return None if bias is None else bias.distance_bias(reference.count, self._other.count)

    def _values(self, which: int) -> SampleValues | None:
        """The distance of a set without each group. Raises DataError where the spec asks for too many groups."""
        if not self._num_groups:
            return None
        real, other = self._left_out[_REAL], self._left_out[which]
        for sets in (other, *(() if self._reference else (real,))):
            if min(group.count for group in sets.groups) < 2:
                if self.spec.jackknife_groups is None:
                    return None
                raise DataError(
                    f"{self.spec.metric()} with jackknife_groups {self._num_groups} needs at least two images in each"
                    f" group, so {2 * self._num_groups} or more of each set; got {sets.count}"
                )
        groups = range(self._num_groups)
        return SampleValues.without_groups(
            groups,
            [_distance(self._reference or real.without(group), other.without(group)) for group in groups],
            [other.groups[group].count for group in groups],
        )

    def _own_reference(self) -> ReferenceStatistics:
        if self._real.count < 2:
            raise DataError(f"{self.spec.metric()} needs at least two images of each set, got {self._real.count}")
        real = self._real.whole()
        reference = ReferenceStatistics(
            mean=real.mean,
            covariance=real.covariance(),
            count=real.count,
            settings=self._features.settings(),
            image_size=self._size,
        )
        if self.spec.write_reference is not None:
            write_reference(self.spec.write_reference, reference, self._names)
        return reference

    def _settings(self, reference: ReferenceStatistics, values: SampleValues | None) -> dict[str, Any]:
        settings = self._features.settings() | {"num_real": reference.count, "image_size": list(self._size or ())}
        if reference.source:
            settings["reference"] = reference.source
        if self.spec.force:
            settings["forced"] = True
        if values is not None:
            settings["spread_over"] = f"jackknife of {self._num_groups} groups of images"
        return settings


def _distance(real: ReferenceStatistics | GaussianStatistics, other: GaussianStatistics) -> float:
    device = other.mean.device
    covariance = real.covariance() if isinstance(real, GaussianStatistics) else real.covariance
    return frechet_distance(real.mean.to(device), covariance.to(device), other.mean, other.covariance())
