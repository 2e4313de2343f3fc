"""The frozen encoder of a representation autoencoder: a vision transformer of timm, of which the patch tokens count."""

import json
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.errors import CheckpointError
from diffusability.core.shapes import Images
from diffusability.core.weight_prefixes import without_prefix
from diffusability.models.specs.autoencoders.rae import TimmEncoderSpec
from diffusability.models.weight_files import read_weight_file

#: Parts of published checkpoints that make no patch tokens: heads, the final norm's weights, a masked token.
_LEFT_OUT = ("head.", "fc_norm.", "attn_pool.", "norm.", "mask_token", "decoder_", "decoder.")


@attrs.frozen(kw_only=True)
class EncoderFacts:
    """What is known of an encoder without its weights.

    Attributes:
        width: channels of a token.
        patch_size: pixels of a patch along each side.
        mean, std: of the three channels of images in [0, 1], as it was trained.
        num_parameters: its parameters, without a head.
    """

    width: int
    patch_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_parameters: int


_FACTS: dict[str, EncoderFacts] = {}


def facts_of(spec: TimmEncoderSpec) -> EncoderFacts:
    """Facts of an encoder, found by building it on tensors without content; once for each architecture.

    Raises:
        ValueError: timm has no such model, it cannot be built with the options, or is not a vision transformer.
    """
    key = json.dumps([spec.model, spec.options], sort_keys=True, default=str)
    if key not in _FACTS:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            network = vision_transformer(spec)
        _FACTS[key] = EncoderFacts(
            width=network.embed_dim,
            patch_size=network.patch_embed.patch_size[0],
            mean=tuple(network.pretrained_cfg["mean"]),
            std=tuple(network.pretrained_cfg["std"]),
            num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        )
    return _FACTS[key]


def vision_transformer(spec: TimmEncoderSpec) -> Any:
    """The architecture with random weights, for images of any size; its final norm has no weights.

    Raises:
        ValueError: timm has no such model, it cannot be built with the options, or is not a vision transformer.
    """
    import timm

    name, _, tag = spec.model.partition(".")
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"timm has no model {name!r}{hint}")
    if tag and spec.model not in timm.list_pretrained(f"{name}.*"):
        known = ", ".join(timm.list_pretrained(f"{name}.*"))
        raise ValueError(f"timm has no weights {spec.model!r}; it knows {known or 'none of this model'}")
    settings: dict[str, Any] = {"num_classes": 0, "global_pool": "", "dynamic_img_size": True} | spec.options
    try:
        network: Any = timm.create_model(spec.model, pretrained=False, **settings)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        options = f" with options {spec.options}" if spec.options else ""
        raise ValueError(f"timm cannot build {spec.model!r}{options} as an encoder of patches: {error}") from None
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if not hasattr(network, "num_prefix_tokens") or patch is None or patch[0] != patch[1]:
        raise ValueError(f"{spec.model!r} is not a vision transformer with square patches")
    width = network.embed_dim
    network.norm = nn.LayerNorm(width, eps=getattr(network.norm, "eps", 1e-6), elementwise_affine=False)
    return network


class FrozenEncoder(nn.Module):
    """Patch tokens of a vision transformer, normalised to zero mean and unit spread over channels, as a map.

    The final layer norm has no weights, as in the paper's code, so that latents have unit scale; class and register
    tokens are left out. It never trains: its parameters need no gradients, and it stays in eval mode.

    Attributes:
        patch_size: pixels of a patch along each side.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: TimmEncoderSpec, untrained: bool = False) -> None:
        super().__init__()
        facts = facts_of(spec)
        self.patch_size = facts.patch_size
        self.network = vision_transformer(spec)
        self.register_buffer("mean", torch.tensor(facts.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(facts.std).view(1, 3, 1, 1), persistent=False)
        weights = None if untrained else spec.weights_file()
        if weights is not None:
            _fill(self.network, weights, spec)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Stays in eval mode."""
        return super().train(False)

    def forward(self, images: Images, grid: tuple[int, int]) -> Float[Tensor, "b latent_channels latent_h latent_w"]:
        """Tokens of images in [-1, 1], which are resized (bicubic) to ``grid`` patches of the encoder's size."""
        size = [side * self.patch_size for side in grid]
        pixels = images / 2 + 0.5
        if list(images.shape[-2:]) != size:
            pixels = F.interpolate(pixels, size=size, mode="bicubic", align_corners=False)
        tokens: Tensor = self.network.forward_features((pixels - self.mean) / self.std)
        patches = tokens[:, self.network.num_prefix_tokens :]
        latents: Tensor = patches.transpose(1, 2).reshape(len(patches), -1, *grid)
        return latents


def _fill(network: Any, path: Path, spec: TimmEncoderSpec) -> None:
    """Puts published weights into an encoder. Raises CheckpointError when they are of another network."""
    weights = without_prefix(read_weight_file(path), network.state_dict(), path)
    try:
        weights = dict(sys.modules[type(network).__module__].checkpoint_filter_fn(weights, network))
        kept = {name: value for name, value in weights.items() if not name.startswith(_LEFT_OUT)}
        network.load_state_dict(kept)
    except (RuntimeError, KeyError, AttributeError) as error:
        details = " ".join(line.strip() for line in str(error).splitlines()[:3])
        raise CheckpointError(f"{str(path)!r} does not hold the weights of {spec.model!r}: {details}") from None
