"""The contract of an autoencoder."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import attrs
from torch import nn

from diffusability.core.contracts.from_spec import FromSpec
from diffusability.core.contracts.model_files import spec_without_weights, write_model
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.specs.files.carried import carried
from diffusability.core.specs.files.saved_format import AUTOENCODER, AUTOENCODER_FORMAT, INFO


class Autoencoder(nn.Module, FromSpec, ABC):
    """Encodes images or clips to a posterior over raw latents, and decodes latents of any size.

    Attributes:
        info: shape facts.
        spec: the configuration that rebuilds this architecture; set by ``build_autoencoder``.
    """

    info: AutoencoderInfo
    spec: AutoencoderSpec | None = None

    @abstractmethod
    def encode(self, images: Images) -> Posterior:
        """The posterior over raw latents of images in [-1, 1]."""

    @abstractmethod
    def decode(self, latents: Latents) -> Images:
        """Images, nominally in [-1, 1], of raw latents of any height and width."""

    def part_of(self, parameter: str) -> Literal["encoder", "decoder"] | None:
        """Which half a parameter belongs to, by its dotted name; None for one that belongs to neither or both.

        By default from the names that diffusers gives: ``encoder`` and ``quant_conv``, ``decoder`` and
        ``post_quant_conv``.
        """
        for word in parameter.split("."):
            if word in ("encoder", "quant_conv"):
                return "encoder"
            if word in ("decoder", "post_quant_conv"):
                return "decoder"
        return None

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """Blocks that the engine may compile, and whose activations it may compute again in the backward pass.

        Each is called as a module, keeps no state between calls, and lies in no other. None by default.
        """
        return ()

    def decoder_tail(self) -> Iterable[nn.Module]:
        """The decoder's last normalisation and convolution, which fine-tuning may freeze. None by default."""
        return ()

    def published_normalizer(self) -> LatentNormalizer | None:
        """The scaling of latents that was published with this autoencoder; None when there is none."""
        return None

    def exchange_library(self) -> str:
        """The library whose layout ``export`` writes: ``diffusers``, or by default this project's own."""
        return "diffusability"

    def export(self, directory: Path) -> None:
        """Writes ``config.json`` and safetensors weights.

        By default in this project's own layout, which the kind ``saved`` reads.
        """
        self.save(directory)

    def save(self, directory: Path) -> None:
        """Writes this project's own layout: the spec that rebuilds the architecture, and the weights.

        Source files and other files that the spec names are copied along, so that nothing else is needed.
        """
        assert self.spec is not None, "autoencoders are built by build_autoencoder"
        weights = self.state_dict()
        kept = carried(spec_without_weights(self.spec, weights))
        config = {"format": AUTOENCODER_FORMAT, **kept.config(AUTOENCODER), INFO: attrs.asdict(self.info)}
        write_model(directory, config, weights)
        kept.copy_to(directory)


def build_autoencoder(spec: AutoencoderSpec, context: BuildContext | None = None) -> Autoencoder:
    """Builds an autoencoder and sets the spec that rebuilds it."""
    autoencoder: Autoencoder = spec.build(context or BuildContext())
    if autoencoder.spec is None:
        autoencoder.spec = spec
    return autoencoder
