"""The weighted sum of distances that an autoencoder's reconstruction is trained with."""

from collections.abc import Callable
from functools import partial

import attrs
import torch
from torch import Tensor

from diffusability.core.errors import TrainingError
from diffusability.core.perceptual.borrowed import BorrowedNetwork
from diffusability.core.perceptual.distance import PerceptualDistance
from diffusability.core.shapes import Images, Scalar
from diffusability.models.objectives.image_distances import (
    absolute_error,
    charbonnier,
    dct_distance,
    pseudo_huber,
    squared_error,
)
from diffusability.models.specs.objectives.reconstruction import PerceptualSpec, ReconstructionSpec


@attrs.frozen(kw_only=True, eq=False)
class Distance:
    """One term: a function of images and their reconstruction, its weight, and whether a perceptual network it is."""

    weight: float
    compute: Callable[[Images, Images], Scalar]
    perceptual: bool = False


class ReconstructionLoss:
    """A weighted sum of named distances."""

    def __init__(self, distances: dict[str, Distance]) -> None:
        self.distances = distances

    def terms(self, images: Images, reconstruction: Images, perceptual: bool = True) -> dict[str, Scalar]:
        """Each distance before its weight, by name; without ``perceptual``, those of pixels and frequencies alone.

        Raises:
            TrainingError: nothing is left to compare, or the images do not fit a distance.
        """
        chosen = {name: each for name, each in self.distances.items() if perceptual or not each.perceptual}
        if not chosen:
            raise TrainingError(
                f"without its perceptual part the reconstruction loss is empty: it has {', '.join(self.distances)} only"
            )
        return {name: each.compute(images, reconstruction) for name, each in chosen.items()}

    def total(self, terms: dict[str, Scalar]) -> Scalar:
        """The weighted sum of terms."""
        return torch.stack([self.distances[name].weight * term for name, term in terms.items()]).sum()

    def __call__(self, images: Images, reconstruction: Images, perceptual: bool = True) -> Scalar:
        """The weighted sum of all terms."""
        return self.total(self.terms(images, reconstruction, perceptual))


def reconstruction_loss(spec: ReconstructionSpec, untrained: bool = False) -> ReconstructionLoss:
    """The loss of a spec; a perceptual network is read from its files here, or ``untrained`` without any.

    Raises:
        ValueError: a weight file or a package is missing.
        CheckpointError: a weight file cannot be read.
    """
    distances: dict[str, Distance] = {}
    if spec.l1:
        distances["l1"] = Distance(weight=spec.l1, compute=absolute_error)
    if spec.mse:
        distances["mse"] = Distance(weight=spec.mse, compute=squared_error)
    if spec.charbonnier is not None:
        compute = partial(charbonnier, epsilon=spec.charbonnier.epsilon)
        distances["charbonnier"] = Distance(weight=spec.charbonnier.weight, compute=compute)
    if spec.pseudo_huber is not None:
        compute = partial(pseudo_huber, delta=spec.pseudo_huber.delta)
        distances["pseudo_huber"] = Distance(weight=spec.pseudo_huber.weight, compute=compute)
    if spec.dct is not None:
        compute = partial(dct_distance, block_size=spec.dct.block_size, exponent=spec.dct.exponent)
        distances["dct"] = Distance(weight=spec.dct.weight, compute=compute)
    if spec.perceptual is not None:
        network = BorrowedNetwork(_perceptual_network(spec.perceptual, untrained))
        distances[spec.perceptual.kind.replace("-", "_")] = Distance(
            weight=spec.perceptual.weight, compute=partial(_mean_perceptual, network), perceptual=True
        )
    return ReconstructionLoss(distances)


def _perceptual_network(spec: PerceptualSpec, untrained: bool) -> PerceptualDistance:
    from diffusability.core.perceptual.networks import lpips_network, st_lpips_network, untrained_network

    if untrained:
        return untrained_network(spec.network, shift_tolerant=spec.kind == "st-lpips")
    if spec.kind == "lpips":
        return lpips_network(spec.network, spec.weights)
    return st_lpips_network(spec.network)


def _mean_perceptual(network: BorrowedNetwork[PerceptualDistance], images: Images, reconstruction: Images) -> Scalar:
    distances: Tensor = network.on(images.device)(images, reconstruction)
    return distances.mean()
