"""Distance between the patches of real and of generated images."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.errors import DataError
from diffusability.core.numerics.seeds import derived_seed
from diffusability.eval.generation.laplacian_pyramid import laplacian_pyramid
from diffusability.eval.specs.generation import SlicedWassersteinSpec
from diffusability.eval.streaming.jackknife import FEW_GROUPS, spread_of


def patch_corners(seed: int, image: int, count: int, height: int, width: int) -> Int[Tensor, "p 2"]:
    """``count`` corners (row, column) in [0, height) x [0, width), for the image of that number in a set.

    They depend on nothing else, so that the images of two sets that have the same number are cut at the same places.
    """
    generator = torch.Generator().manual_seed(derived_seed(seed, "patches", image, height, width))
    rows = torch.randint(height, (count,), generator=generator)
    columns = torch.randint(width, (count,), generator=generator)
    return torch.stack([rows, columns], dim=1)


def cut_patches(image: Float[Tensor, "c h w"], corners: Int[Tensor, "p 2"], size: int) -> Float[Tensor, "p c n"]:
    """The square patches with these upper left corners, flattened, ``n = size^2``."""
    offset = torch.arange(size, device=corners.device)
    rows = corners[:, 0, None, None] + offset[:, None]
    columns = corners[:, 1, None, None] + offset[None, :]
    return image[:, rows, columns].transpose(0, 1).flatten(2)


def standardize_channels(patches: Float[Tensor, "n c d"]) -> Float[Tensor, "n f"]:
    """Patches with each channel at zero mean and unit variance over the whole set, as vectors, in float64.

    A constant channel becomes zero.
    """
    values = patches.double()
    centred = values - values.mean((0, 2), keepdim=True)
    std = centred.square().mean((0, 2), keepdim=True).sqrt()
    return (centred / torch.where(std > 0, std, torch.ones_like(std))).flatten(1)


#: Directions that are projected at a time, to bound memory.
CHUNK = 64


def wasserstein_1d(first: Float[Tensor, "n k"], second: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """The 1-Wasserstein distance of each column's two equally large samples: the mean gap between order statistics."""
    return (first.sort(dim=0).values - second.sort(dim=0).values).abs().mean(0)


def random_directions(seed: int, count: int, dimension: int) -> Float[Tensor, "d k"]:
    """``count`` unit vectors, uniform on the sphere, in float64."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "directions", count, dimension))
    directions = torch.randn(dimension, count, generator=generator, dtype=torch.float64)
    return directions / directions.square().sum(0, keepdim=True).sqrt()


def sliced_wasserstein(
    first: Float[Tensor, "n d"], second: Float[Tensor, "n d"], directions: Float[Tensor, "d k"]
) -> float:
    """Mean over directions of the 1-Wasserstein distance between the projections of two equally large samples.

    Source: Rabin et al. 2011; Karras et al. 2018, section 5.
    """
    distances = [wasserstein_1d(first @ chunk, second @ chunk) for chunk in torch.split(directions, CHUNK, dim=1)]
    return torch.cat(distances).mean().item()


#: Sides of the levels, and patches by index.
Seen = tuple[list[int], dict[int, list[tuple[Tensor, Tensor]]]]

PATCH_SIZE = 7
SMALLEST_LEVEL = 16
#: Distances are reported in thousandths, as in the paper.
SCALE = 1e3
#: Directions along which distances are computed again without each group of images.
FEW_PROJECTIONS = 64


class SlicedWasserstein(Evaluator):
    """``sliced_wasserstein`` and, for each level of the pyramid, ``sliced_wasserstein_SIDE``, in thousandths.

    Karras et al. 2018 ("Progressive Growing of GANs", section 5): 7x7 patches of the levels of a Laplacian pyramid,
    from full resolution down to 16 pixels, each set's channels standardised, 512 random projections. 0 for equal sets.
    Fine levels tell of texture and sharpness, the coarsest of structure.

    Memory is fixed in advance: of each image and level, ``min(patches_per_image, max_patches // num_samples)`` patches
    are kept, and images of an index past ``num_samples`` are not used. The k-th real and the k-th generated image are
    cut at the same places, so sets that are equal in the same order give exactly 0. Of the k-th clips, one frame is
    used, the same of both, drawn from the seed.
    """

    def __init__(self, spec: SlicedWassersteinSpec) -> None:
        self.spec = spec
        #: Shorter sides of the levels.
        self._sides: list[int] = []
        #: By the index of the image, for each level, patches of the real and of the generated image.
        self._patches: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch.

        Raises:
            DataError: the two sets differ in number or size of images, images are smaller than 16x16 or of another
                size than before.
        """
        assert batch.images is not None
        assert batch.generated is not None
        if batch.images.shape != batch.generated.shape:
            raise DataError(
                f"sliced-wasserstein compares as many generated images as real ones, of one size; got shapes"
                f" {tuple(batch.generated.shape)!r} and {tuple(batch.images.shape)!r}"
            )
        if min(batch.images.shape[-2:]) < SMALLEST_LEVEL:
            height, width = batch.images.shape[-2:]
            raise DataError(f"sliced-wasserstein needs images of at least 16x16 pixels, got {height}x{width}")
        for index, real, generated in zip(batch.indices, batch.images, batch.generated, strict=True):
            if index < self.spec.num_samples:
                self._add(index, self._levels(index, real), self._levels(index, generated))

    def _levels(self, index: int, image: Float[Tensor, "c *t h w"]) -> list[Float[Tensor, "c _ _"]]:
        if image.ndim == 4:
            frame = derived_seed(self.spec.seed, "frame", index) % image.shape[1]
            image = image[:, frame]
        return [level[0] for level in laplacian_pyramid(image[None].float(), SMALLEST_LEVEL)]

    def _add(self, index: int, real: list[Tensor], generated: list[Tensor]) -> None:
        self._expect([min(level.shape[-2:]) for level in real])
        pairs = []
        for first, second in zip(real, generated, strict=True):
            height, width = (side - PATCH_SIZE + 1 for side in first.shape[-2:])
            corners = patch_corners(self.spec.seed, index, self.spec.resolved_patches_per_image(), height, width)
            cut = [cut_patches(level, corners.to(level.device), PATCH_SIZE).float().cpu() for level in (first, second)]
            pairs.append((cut[0], cut[1]))
        self._patches[index] = pairs

    def _expect(self, sides: list[int]) -> None:
        if self._sides and sides != self._sides:
            raise DataError(f"images of {sides[0]} pixels follow images of {self._sides[0]}: expected one size")
        self._sides = sides

    def state(self) -> Seen:
        return self._sides, self._patches

    def merge(self, state: Seen) -> None:
        """Adds what another rank has seen.

        Raises:
            DataError: its images were of another size.
        """
        sides, patches = state
        if sides:
            self._expect(sides)
        self._patches |= patches

    def compute(self) -> list[EvalResult]:
        if not self._patches:
            raise DataError("no images were evaluated: sliced-wasserstein needs some of both sets")
        indices = sorted(self._patches)
        distances = self._distances(indices, self.spec.num_projections)
        left_out = self._left_out(indices, distances)
        settings = {
            "patches_per_image": self.spec.resolved_patches_per_image(),
            "num_projections": self.spec.num_projections,
            "patch_size": PATCH_SIZE,
            "seed": self.spec.seed,
            "spread_over": f"jackknife of {FEW_GROUPS} groups of images",
        }
        return [
            EvalResult(
                metric=metric,
                value=value,
                unit="1e-3",
                higher_is_better=False,
                num_samples=len(self._patches),
                spread=spread_of(left_out[metric], value),
                spec=settings,
                values=left_out[metric],
            )
            for metric, value in distances.items()
        ]

    def _distances(self, indices: Sequence[int], num_projections: int) -> dict[str, float]:
        """Of these samples, by metric."""
        distances = {}
        for place, side in enumerate(self._sides):
            first, second = (
                standardize_channels(torch.cat([self._patches[index][place][which] for index in indices]))
                for which in (0, 1)
            )
            directions = random_directions(self.spec.seed, self.spec.num_projections, first.shape[1])
            value = sliced_wasserstein(first, second, directions[:, :num_projections])
            distances[f"sliced_wasserstein_{side}"] = SCALE * value
        return {"sliced_wasserstein": sum(distances.values()) / len(distances), **distances}

    def _left_out(self, indices: Sequence[int], whole: Mapping[str, float]) -> Mapping[str, SampleValues | None]:
        """The distances without each group of pairs of images, by metric.

        Along the first ``FEW_PROJECTIONS`` directions, shifted by what that changes for all images: what they vary by
        is the images' doing, and hardly that of directions.
        """
        few = min(FEW_PROJECTIONS, self.spec.num_projections)
        counts = Counter(index % FEW_GROUPS for index in indices)
        groups = sorted(counts)
        if len(groups) < 2:
            return dict.fromkeys(whole)
        rows = [self._distances([index for index in indices if index % FEW_GROUPS != group], few) for group in groups]
        of_all = self._distances(indices, few)
        return {
            metric: SampleValues.without_groups(
                groups,
                [row[metric] + value - of_all[metric] for row in rows],
                [counts[group] for group in groups],
            )
            for metric, value in whole.items()
        }
