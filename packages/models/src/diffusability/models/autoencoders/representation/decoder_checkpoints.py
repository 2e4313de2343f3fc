"""Weights of published decoders of representation autoencoders, in the authors' layout and in that of diffusers."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from diffusability.core.errors import CheckpointError
from diffusability.core.weight_prefixes import without_prefix
from diffusability.models.weight_files import read_weight_file

_OUTSIDE = {"embedding": "decoder_embed", "norm": "decoder_norm", "pixels": "decoder_pred"}
_INSIDE = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "first": "intermediate.dense",
    "second": "output.dense",
}
#: Attention in the authors' layout (that of transformers), then in that of diffusers.
_ATTENTION = (
    ("attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense"),
    ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0"),
)


def load_decoder(decoder: nn.Module, path: Path, mean: Tensor, std: Tensor) -> None:
    """Fills a decoder with published weights.

    Theirs makes pixels with the mean and standard deviation of the encoder's images, ours in [-1, 1]: the map between
    both is folded into the last layer.

    Args:
        decoder: a ``ViTDecoder``.
        path: the file.
        mean, std: of the three channels of images in [0, 1], as the encoder takes them.

    Raises:
        CheckpointError: the file cannot be read, or is of another size.
    """
    weights = read_weight_file(path)
    weights = without_prefix(weights, ("decoder_pred.weight", "decoder_embed.weight"), path)
    depth = len(decoder.blocks)  # type: ignore[arg-type]
    num_blocks = len({match[1] for name in weights if (match := re.match(r"decoder_layers\.(\d+)\.", name))})
    if num_blocks not in (0, depth):
        raise CheckpointError(f"{str(path)!r} holds a decoder of {num_blocks} blocks; this one has {depth}")
    try:
        ours = imported(weights, depth, mean.flatten(), std.flatten())
    except KeyError as error:
        raise CheckpointError(
            f"{str(path)!r} does not hold a published decoder: {error.args[0]!r} is missing among its {len(weights)}"
            " tensors"
        ) from None
    expected = decoder.state_dict()
    for name, value in ours.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{str(path)!r} does not fit this decoder: {name!r} has shape {tuple(value.shape)!r} in the file, and"
                f" {tuple(expected[name].shape)!r} in the model; see decoder.size and decoder.patch_size"
            )
    decoder.load_state_dict(ours)


def imported(weights: Mapping[str, Tensor], depth: int, mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """Published weights under our names. Raises KeyError for a tensor that is missing."""
    names = _ATTENTION[0] if "decoder_layers.0.attention.attention.query.weight" in weights else _ATTENTION[1]
    ours = {"class_token": weights["trainable_cls_token"]}
    for kind in ("weight", "bias"):
        ours |= {f"{own}.{kind}": weights[f"{theirs}.{kind}"] for own, theirs in _OUTSIDE.items()}
        for index in range(depth):
            block = f"decoder_layers.{index}"
            ours |= {f"blocks.{index}.{own}.{kind}": weights[f"{block}.{name}.{kind}"] for own, name in _INSIDE.items()}
            queries, keys, values, projection = (weights[f"{block}.{name}.{kind}"] for name in names)
            ours[f"blocks.{index}.qkv.{kind}"] = torch.cat([queries, keys, values])
            ours[f"blocks.{index}.projection.{kind}"] = projection
    return ours | _pixels(ours["pixels.weight"], ours["pixels.bias"], mean, std)


def _pixels(weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """The last layer: from (row, column, channel) to (channel, row, column), and from their pixels to ours.

    ``2 (std y + mean) - 1`` of their pixels y.
    """
    scale = 2 * std[:, None].expand(-1, len(bias) // len(std)).reshape(-1)
    shift = 2 * mean[:, None].expand(-1, len(bias) // len(mean)).reshape(-1) - 1
    weight, bias = (_channels_first(value, len(std)) for value in (weight, bias))
    return {"pixels.weight": (weight * scale[:, None])[..., None, None], "pixels.bias": bias * scale + shift}


def _channels_first(values: Tensor, channels: int) -> Tensor:
    return values.view(-1, channels, *values.shape[1:]).transpose(0, 1).flatten(0, 1)
