"""The user's own autoencoder, any module with ``encode`` and ``decode``, behind the contract of the core."""

import sys
from pathlib import Path
from typing import Any

import attrs
import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.normalizer import LatentNormalizer, refuse_normalized
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.engine.launched import launched_rank
from diffusability.core.errors import CheckpointError, PluginError
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.weight_prefixes import without_prefix
from diffusability.models.autoencoders.conventions import images_of, posterior_of
from diffusability.models.autoencoders.probing import described, made_by, probe_of
from diffusability.models.specs.autoencoders.python import PythonAutoencoderSpec
from diffusability.models.weight_files import read_weight_file


class PythonAutoencoder(Autoencoder):
    """Encodes and decodes with another library's module, in any of the forms of ``conventions``.

    Raises:
        ValueError: images or latents do not have the shape that is expected.
        PluginError: the module returns something else, or another shape than for the input that it was tried with.
    """

    def __init__(self, *, model: nn.Module, info: AutoencoderInfo, name: str) -> None:
        super().__init__()
        self.model: Any = model
        self.info = info
        self.name = name

    @classmethod
    def from_spec(cls, spec: PythonAutoencoderSpec, context: BuildContext) -> "Autoencoder":  # type: ignore[override]
        """Calls the target and fills the checkpoint in. One that returns an Autoencoder of the core is left as it is.

        Raises:
            PluginError: what it makes is not an autoencoder.
            CheckpointError: the checkpoint does not fit it.
        """
        model = made_by(spec, context)
        if spec.checkpoint is not None:
            _load(model, spec.checkpoint, spec.target)
        if isinstance(model, Autoencoder):
            made: Autoencoder = model
        else:
            made = cls(model=model, info=probe_of(spec).info, name=f"autoencoder {spec.target!r}")
            _say_once(f"note: {spec.target}: {described(made.info)}, found by encoding a small input")
        made.spec = spec.model_copy(update={"checkpoint": None})  # rebuilt without this file
        return made

    def encode(self, images: Images) -> Posterior:
        """The posterior of images or clips in [-1, 1]."""
        wanted = self.info.latent_shape(tuple(images.shape[1:]))
        posterior = posterior_of(self.model.encode(images.to(self._dtype(images))), self.name)
        if posterior.mean.shape[1:] != wanted:
            raise PluginError(
                f"{self.name}: encode returned shape {tuple(posterior.mean.shape)!r} for {tuple(images.shape)!r};"
                f" expected {(len(images), *wanted)!r}, as the factor that was found says"
            )
        logvar = posterior.logvar
        return attrs.evolve(
            posterior,
            mean=posterior.mean.to(images.dtype),
            logvar=None if logvar is None else logvar.to(images.dtype),
        )

    def decode(self, latents: Latents) -> Float[Tensor, "b image_channels *image_t image_h image_w"]:
        """Images or clips of raw latents."""
        refuse_normalized(latents, "decode")
        if latents.ndim != (5 if self.info.takes_clips else 4) or latents.shape[1] != self.info.latent_channels:
            wanted = f"(b, {self.info.latent_channels}, {'t, ' if self.info.takes_clips else ''}h, w)"
            raise ValueError(f"{self.name} decodes shape {wanted}, got {tuple(latents.shape)!r}")
        return images_of(self.model.decode(latents.to(self._dtype(latents))), self.name).to(latents.dtype)

    def published_normalizer(self) -> LatentNormalizer | None:
        """What the module's own ``published_normalizer`` returns, where it has one."""
        published = getattr(self.model, "published_normalizer", None)
        normalizer = published() if callable(published) else None
        return normalizer if isinstance(normalizer, LatentNormalizer) else None

    def _dtype(self, like: Tensor) -> torch.dtype:
        weights = (parameter.dtype for parameter in self.model.parameters() if parameter.is_floating_point())
        return next(weights, like.dtype)


def _load(model: nn.Module, checkpoint: Path, target: str) -> None:
    weights = without_prefix(read_weight_file(checkpoint), model.state_dict(), checkpoint)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        details = "; ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise CheckpointError(f"{str(checkpoint)!r} does not hold the weights of {target!r}: {details}") from None


_SAID: set[str] = set()


def _say_once(sentence: str) -> None:
    """On stderr of the first rank."""
    launched = launched_rank()
    if sentence not in _SAID and (launched is None or launched.rank == 0):
        _SAID.add(sentence)
        print(sentence, file=sys.stderr)
