"""What is trained, with which loss, and what a step hands to the regularizers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.from_spec import FromSpec
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.contracts.sampler import Sampler
from diffusability.core.errors import PluginError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.shapes import Images, Labels, Latents, Scalar, Times

if TYPE_CHECKING:
    from diffusability.core.contracts.diffusion_model import DiffusionModel


@attrs.frozen(kw_only=True, eq=False)
class Batch:
    """What the engine feeds to an objective.

    Attributes:
        data: images in [-1, 1] or raw latents, ``b c *t h w``.
        labels: class labels, or None when the data has none.
        randomness: the only source of randomness inside a step.
    """

    data: Images
    labels: Labels | None
    randomness: BatchRandomness


@attrs.frozen(kw_only=True, eq=False, slots=False)  # ZeRO-3's hooks read vars() of what a module returns
class StepOutput:
    """What one forward pass computed. Fields that an objective does not provide are None.

    Attributes:
        losses: named loss terms, each a scalar; their sum is minimised.
        batch: the batch that was used.
        images: images in [-1, 1].
        posterior: the encoder's posterior.
        latents: raw latents that were decoded (a sample of the posterior), attached to the graph.
        reconstruction: decoded images, attached to the graph.
        time: diffusion times in [0, 1].
        prediction: the denoiser's prediction.
        target: what the prediction is compared with.
        monitors: further numbers for the log; not minimised.
    """

    losses: Mapping[str, Scalar]
    batch: Batch
    images: Images | None = None
    posterior: Posterior | None = None
    latents: Latents | None = None
    reconstruction: Images | None = None
    time: Times | None = None
    prediction: Latents | None = None
    target: Latents | None = None
    monitors: Mapping[str, Tensor] = attrs.field(factory=dict)


class Objective(nn.Module, FromSpec, ABC):
    """Owns the models that are trained and computes their loss.

    Attributes:
        provides: names of the StepOutput fields that ``forward`` fills.
        autoencoder: the autoencoder in training, for objectives that have one.
    """

    provides: frozenset[str] = frozenset()
    autoencoder: Autoencoder | None

    def __init__(self) -> None:
        super().__init__()
        self.autoencoder = None  # not on the class: there it would hide a submodule of this name

    @property
    def objective(self) -> "Objective":
        """Regularizers once got the engine's task: ``task.objective`` raises an error that says what changed."""
        raise PluginError(
            "a regularizer's forward(output, objective) gets the objective itself, no longer the engine's task: use"
            " objective.autoencoder in place of task.objective.autoencoder"
        )

    @abstractmethod
    def forward(self, batch: Batch) -> StepOutput:
        """Computes the losses of one (micro) batch; a loss is a mean over the batch."""

    def reconstruction_loss(self, images: Images, reconstruction: Images, perceptual: bool = True) -> Scalar:
        """The distance between images that this objective minimises, for regularizers that compare images.

        Without ``perceptual`` the terms that a perceptual network computes are left out.
        """
        raise TypeError(f"{type(self).__name__} has no reconstruction loss")

    def preview(
        self, batch: Batch, sampler: Sampler | None, decode: Callable[[Latents], Images] | None
    ) -> Mapping[str, Images]:
        """Rows of images in [-1, 1], by title, that show how training goes. Called without gradients, in eval mode.

        ``sampler`` and ``decode`` (raw latents to images) are given to objectives that train on latents.
        """
        return {}

    def use_normalizer(self, normalizer: LatentNormalizer) -> None:
        """Takes over the normaliser of the latents that it is going to be trained on."""
        raise TypeError(f"{type(self).__name__} does not train on latents")

    def diffusion_model(self) -> "DiffusionModel":
        """The denoiser in training with all that sampling needs, for objectives that train one."""
        raise TypeError(f"{type(self).__name__} trains no denoiser")

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Writes the trained model, with its configuration, for later stages to load."""
