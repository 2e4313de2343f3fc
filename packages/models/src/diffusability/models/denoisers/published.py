"""Trained DiTs and SiTs from elsewhere, as models that samplers here take."""

import torch
from torch import Tensor

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.linear_betas import LinearBetas
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.parametrisation import VELOCITIES, Parametrisation
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.shapes import Labels, Latents, Predictions, Times
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.denoisers.dit import DiT
from diffusability.models.denoisers.dit_checkpoints import fill_pretrained, published_architecture, unwrapped
from diffusability.models.specs.denoisers.published import PublishedDenoiserSpec
from diffusability.models.weight_files import read_weight_file

#: What a DiT multiplies its times by; SiT's times are embedded as they are.
_TIME_SCALE = 1000.0


class SiT(Denoiser):
    """Velocities ``eps - z`` of a SiT (Ma et al. 2024), made of its own network.

    Its released code has data at time 1 and noise at 0, embeds the time without a factor, and predicts ``z - eps``:
    ``v(z, t) = -network(z, 1 - t)``. With ``learn_sigma`` it drops the second half of its channels.

    Attributes:
        network: a DiT with its weights.
    """

    def __init__(self, network: DiT) -> None:
        super().__init__()
        self.network = network
        self.num_classes = network.num_classes

    def forward(
        self, latents: Latents, time: Times, labels: Labels | None, previous_estimate: Latents | None = None
    ) -> Predictions:
        """The velocity. Raises what its network raises."""
        predicted: Tensor = self.network(latents, (1 - time) / _TIME_SCALE, labels, previous_estimate)
        return -(predicted.chunk(2, dim=1)[0] if self.network.learn_sigma else predicted)


def load_published(spec: PublishedDenoiserSpec, context: BuildContext) -> DiffusionModel:
    """The trained model of a file, with the scaling of its latents.

    Raises:
        CheckpointError: the file cannot be read, or holds another network.
        SpecError: the size of its latents, or its number of heads, is in neither the file nor the spec.
    """
    weights = unwrapped(read_weight_file(spec.path), spec.path)
    architecture = published_architecture(weights, spec.path, spec.latent_size, spec.num_heads)
    if spec.family == "dit" and not architecture.learn_sigma:
        raise CheckpointError(
            f"{str(spec.path)!r} predicts no variance, as published DiTs do; expected family 'sit' for this file"
        )
    network = DiT(architecture)
    fill_pretrained(network, architecture, weights, spec.path)
    channels = architecture.latent_shape[0]
    normalizer = LatentNormalizer(
        torch.full((channels,), spec.shift_factor), torch.full((channels,), 1 / spec.scaling_factor)
    )
    dit = Parametrisation(prediction="noise", betas=LinearBetas())
    return DiffusionModel(
        denoiser=network if spec.family == "dit" else SiT(network),
        normalizer=normalizer,
        latent_shape=architecture.latent_shape,
        num_classes=architecture.num_classes,
        spec=spec,
        parametrisation=dit if spec.family == "dit" else VELOCITIES,
    )


def published_denoiser(spec: PublishedDenoiserSpec, context: BuildContext) -> Denoiser:
    """The denoiser alone. Raises SpecError where it would be trained: it is for sampling."""
    if context.latent_shape is not None:
        raise SpecError(
            "a denoiser of kind 'published' is for sampling; to train on from its weights, use kind 'dit' with"
            " pretrained"
        )
    return load_published(spec, context).denoiser
