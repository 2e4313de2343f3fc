"""Mean and covariance of feature vectors, of all samples and of all but one group of them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.eval.streaming.gaussian_statistics import GaussianStatistics


class GroupedStatistics:
    """GaussianStatistics of each group of samples: sample i is in group ``i mod num_groups``.

    Groups depend on the samples' places alone, neither on batches nor on ranks. Memory is one covariance in float64 for
    each group, whatever the number of samples.
    """

    def __init__(self, num_groups: int = 1) -> None:
        self.groups = [GaussianStatistics() for _ in range(num_groups)]

    @property
    def count(self) -> int:
        """Vectors seen."""
        return sum(group.count for group in self.groups)

    def update(self, vectors: Float[Tensor, "n d"], indices: Sequence[int]) -> None:
        """Adds the vectors of the samples at these places."""
        if not self.groups:
            return
        places = torch.tensor(list(indices), device=vectors.device) % len(self.groups)
        for number, group in enumerate(self.groups):
            group.update(vectors[places == number] if len(self.groups) > 1 else vectors)

    def merge(self, other: "GroupedStatistics") -> None:
        """Adds what another one with as many groups has seen.

        Raises:
            DataError: its vectors have another length.
        """
        for own, theirs in zip(self.groups, other.groups, strict=True):
            own.merge(theirs)

    def whole(self) -> GaussianStatistics:
        """Of all samples."""
        return self.groups[0] if len(self.groups) == 1 else _joined(self.groups)

    def without(self, number: int) -> GaussianStatistics:
        """Of all samples but those of one group."""
        return _joined([*self.groups[:number], *self.groups[number + 1 :]])

    def on_cpu(self) -> "GroupedStatistics":
        """A copy that other processes can read."""
        copy = GroupedStatistics(0)
        copy.groups = [group.on_cpu() for group in self.groups]
        return copy


def _joined(groups: Sequence[GaussianStatistics]) -> GaussianStatistics:
    joined = GaussianStatistics()
    for group in groups:
        joined.merge(group)
    return joined
