"""Whether latents that lie close together show the same class."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def neighbor_consistency(
    vectors: Float[Tensor, "n d"], labels: Int[Tensor, " n"], num_neighbors: int = 10
) -> Float[Tensor, " n"]:
    """LNC of each sample: the share of its nearest neighbours, by cosine, that carry its label.

    "Diffusing in the Right Space" (arXiv 2606.03578), "Semantic separability". Chance level is the share of the class.
    Cosines are those of the vectors as they are: a large common mean makes all of them nearly 1.

    Raises:
        ValueError: not more samples than neighbours.
    """
    count = len(vectors)
    if count <= num_neighbors:
        raise ValueError(f"{num_neighbors} neighbours need more than {num_neighbors} samples, got {count}")
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-torch.inf)
    nearest = similarity.topk(num_neighbors, dim=1).indices
    return (labels[nearest] == labels[:, None]).double().mean(1)
