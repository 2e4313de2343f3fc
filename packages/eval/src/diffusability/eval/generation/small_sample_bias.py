"""How much of a Frechet distance comes of the small number of images."""

from collections.abc import Callable, Sequence

import attrs

from diffusability.eval.streaming.gaussian_statistics import GaussianStatistics
from diffusability.eval.streaming.grouped_statistics import GroupedStatistics

#: Parts of a set between which distances are measured.
PARTS = 4
#: Up to so many images for each feature a distance says how much of it is bias.
NEAR = 5

Distance = Callable[[GaussianStatistics, GaussianStatistics], float]


@attrs.frozen(kw_only=True)
class SmallSampleBias:
    """What two sets of n images of one distribution are apart: ``1 / (offset + slope n)``.

    Attributes:
        offset: of the inverse at no image.
        slope: growth of the inverse with an image; with many images all that counts, as the bias is proportional to
            1 / n then.
    """

    offset: float
    slope: float

    def expected_distance(self, num_images: float) -> float:
        """The expected distance of two sets of so many images each."""
        return 1 / (self.offset + self.slope * num_images)

    def distance_bias(self, first: int | None, second: int) -> float:
        """The bias of a distance between sets of these sizes: half of it comes of each. None stands for very many."""
        own = self.expected_distance(second) / 2
        return own if first is None else own + self.expected_distance(first) / 2


def small_sample_bias(parts: GroupedStatistics, distance: Distance) -> SmallSampleBias | None:
    """Measured on one set, by its halves and quarters; None where the parts are too small, or all alike.

    The Frechet distance of samples is biased upwards, by what sampling adds to covariances, and for all sets alike: two
    sets of n images of one distribution are apart by it alone. Quarters of a set against each other, and halves, give
    this distance at n / 4 and n / 2 images, whatever the distribution of the features, and the inverse, which is linear
    in n where n is large, gives it at n. (A Gaussian of the estimated covariance would say too little: with no more
    images than features, it lacks the directions that were not seen.)
    """
    first, second, third, fourth = parts.groups
    if min(group.count for group in parts.groups) < 2:
        return None
    quarters = (distance(first, second) + distance(third, fourth)) / 2
    halves = distance(_joined((first, third)), _joined((second, fourth)))
    if halves <= 0 or quarters <= 0:
        return None
    half = parts.count / 2
    slope = (1 / halves - 1 / quarters) / (half / 2)
    slope = min(max(slope, 0.0), 1 / (halves * half))  # constant at least, proportional to 1 / n at most
    return SmallSampleBias(offset=1 / halves - slope * half, slope=slope)


def _joined(groups: Sequence[GaussianStatistics]) -> GaussianStatistics:
    joined = GaussianStatistics()
    for group in groups:
        joined.merge(group)
    return joined


def bias_note(bias: float, num_images: int, num_features: int) -> str:
    """The bias in words, for results."""
    return (
        f"about {bias:.3g} of it is due to the small number of images ({num_images:,} for {num_features:,} features):"
        " sets of one distribution would be that far apart, so compare it at an equal number of images only"
    )
