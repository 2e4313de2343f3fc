"""How the similarity of two latent pixels falls with their distance.

Singh et al. 2025, "What matters for Representation Alignment: Global Information or Spatial Structure?" (arXiv
2512.10794): cosine similarity of the channel vectors of two places, by their Manhattan distance on the latents' grid.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

FAR = 6
LONGEST = 8


def manhattan_distances(height: int, width: int) -> Int[Tensor, "s s"]:
    """Distance of each pair of places of a grid, row by row."""
    row = torch.arange(height).repeat_interleave(width)
    column = torch.arange(width).repeat(height)
    return (row[:, None] - row).abs() + (column[:, None] - column).abs()


def cosine_similarities(latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n s s"]:
    """Cosine of the channel vectors of each pair of places, within each map; 0 where a vector is 0."""
    unit = torch.nn.functional.normalize(latents.float().flatten(2), dim=1)
    return unit.transpose(1, 2) @ unit


def mean_by_distance(
    similarities: Float[Tensor, "n s s"], distances: Int[Tensor, "s s"]
) -> tuple[Float[Tensor, "n d"], Int[Tensor, " d"]]:
    """Mean similarity of the pairs at each distance from 0 to the largest, and how many pairs there are."""
    flat = distances.flatten()
    counts = torch.bincount(flat)
    sums = torch.stack([torch.bincount(flat, weights=values.flatten().double()) for values in similarities])
    return sums / counts, counts


def local_distant_similarity(
    means: Float[Tensor, "n d"], counts: Int[Tensor, " d"], far: int = FAR
) -> Float[Tensor, " n"]:
    """LDS: mean similarity of direct neighbours minus that of pairs at a distance of ``far`` or more.

    Takes what ``mean_by_distance`` gives. NaN on grids that have no pair so far apart.
    """
    weights = counts[far:].to(means)
    return means[:, 1] - (means[:, far:] @ weights) / weights.sum()


def correlation_decay_slope(means: Float[Tensor, "n d"], longest: int = LONGEST) -> Float[Tensor, " n"]:
    """CDS: minus the slope of a line fitted to the mean similarity against the distance, from 1 to ``longest``.

    Takes the means of ``mean_by_distance``. Per latent pixel; more is a faster decay. NaN where the grid has a single
    distance.
    """
    chosen = means[:, 1 : longest + 1]
    offset = torch.arange(chosen.shape[1], dtype=means.dtype, device=means.device)
    offset = offset - offset.mean()
    return -((chosen - chosen.mean(1, keepdim=True)) @ offset) / offset.square().sum()


def region_self_similarity(
    similarities: Float[Tensor, "n s s"],
    distances: Int[Tensor, "s s"],
    foreground: Bool[Tensor, "n s"],
    near: int = 1,
    far: int = FAR,
) -> Float[Tensor, " n"]:
    """SRSS: how much more similar a foreground place is to near foreground than to far background, a mean over places.

    NaN for images without such pairs.
    """
    is_near = ((distances >= 1) & (distances <= near)).to(similarities)
    is_far = (distances >= far).to(similarities)
    inside = foreground.to(similarities)[..., None]
    outside = 1 - inside
    positive = ((similarities * is_near) @ inside) / (is_near @ inside)
    negative = ((similarities * is_far) @ outside) / (is_far @ outside)
    difference = (positive - negative)[..., 0]
    return difference.masked_fill(~foreground, torch.nan).nanmean(1)


def luminance_foreground(images: Float[Tensor, "n c h w"], height: int, width: int) -> Bool[Tensor, "n s"]:
    """A stand-in for object masks: the rarer side of Otsu's threshold on the luminance, pooled to ``height x width``.

    Otsu 1979: the threshold that parts the values into the two classes of the largest between-class variance. Real
    masks are better; where an object does not differ in brightness this one is wrong.
    """
    pooled = torch.nn.functional.adaptive_avg_pool2d(images.double().mean(1, keepdim=True), (height, width)).flatten(1)
    ordered = pooled.sort(1).values
    count = ordered.shape[1]
    below = torch.arange(1, count, dtype=torch.float64, device=images.device)
    sums = ordered.cumsum(1)[:, :-1]
    mean_below, mean_above = sums / below, (ordered.sum(1, keepdim=True) - sums) / (count - below)
    between = below * (count - below) * (mean_below - mean_above).square()
    threshold = ordered.gather(1, between.argmax(1, keepdim=True))
    bright = pooled > threshold
    rarer_is_bright = bright.sum(1, keepdim=True) * 2 <= count
    return torch.where(rarer_is_bright, bright, ~bright)
