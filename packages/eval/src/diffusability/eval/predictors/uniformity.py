"""How evenly points fill the space that they span.

Yao et al. 2025 (VA-VAE, arXiv 2501.01423), "uniformity of the latent space": density of a two-dimensional embedding,
estimated at the points themselves.
"""

import attrs
import torch
from jaxtyping import Float
from torch import Tensor


@attrs.frozen(kw_only=True)
class Uniformity:
    """Statistics of densities: equal densities give 0, 0 and 1.

    Attributes:
        cv: coefficient of variation, standard deviation over mean.
        gini: Gini coefficient, in [0, 1).
        entropy: entropy of the normalised densities over its largest value, in [0, 1].
    """

    cv: float
    gini: float
    entropy: float


def embedded(points: Float[Tensor, "n d"], seed: int = 0) -> Float[Tensor, "n 2"]:
    """A t-SNE embedding (van der Maaten & Hinton 2008) into the plane, by scikit-learn."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, max(1.0, (len(points) - 1) / 3))
    embedding = TSNE(n_components=2, perplexity=perplexity, random_state=seed % 2**32, init="pca", n_jobs=1)
    return torch.from_numpy(embedding.fit_transform(points.float().cpu().numpy())).double()


def kernel_densities(points: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Gaussian kernel density at each of the points, with Scott's bandwidth (Scott 1992).

    The kernel has the points' covariance times ``n^(-2 / (d + 4))``.
    """
    values = points.double()
    count, dimension = values.shape
    covariance = values.T.cov().view(dimension, dimension) * count ** (-2 / (dimension + 4))
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), values.T, upper=False).T
    squared = torch.cdist(white, white).square()
    normalisation = torch.linalg.det(2 * torch.pi * covariance).sqrt()
    densities: Tensor = torch.exp(-squared / 2).mean(1) / normalisation
    return densities


def uniformity(densities: Float[Tensor, " n"]) -> Uniformity:
    """Coefficient of variation, Gini coefficient and normalised entropy of densities.

    Raises:
        ValueError: fewer than two.
    """
    count = len(densities)
    if count < 2:
        raise ValueError(f"evenness needs at least two points, got {count}")
    ordered = densities.double().sort().values
    total = ordered.sum()
    rank = torch.arange(1, count + 1, dtype=torch.float64)
    share = ordered / total
    entropy = -(share * share.clamp_min(1e-300).log()).sum() / torch.tensor(count, dtype=torch.float64).log()
    return Uniformity(
        cv=(ordered.std(correction=0) / ordered.mean()).item(),
        gini=(2 * (rank * ordered).sum() / (count * total) - (count + 1) / count).item(),
        entropy=entropy.item(),
    )
