"""Single files of weights whose architecture is read from names and shapes: LDM's layout, BFL's, and diffusers'."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from diffusability.core.errors import CheckpointError
from diffusability.core.weight_prefixes import prefix_of
from diffusability.models.weight_files import tensor_shapes

Shapes = Mapping[str, tuple[int, ...]]

#: Classes whose weights are read by the names that they have here; the conversions of others are diffusers'.
READ_BY_NAME = frozenset({"AutoencoderKL", "AutoencoderKLFlux2"})

_MARKERS = ("encoder.conv_in.weight", "decoder.conv_in.weight")
_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "bn.")
_NORM_GROUPS = 32
#: Words in the layouts of LDM (CompVis) and BFL, and what diffusers calls them; applied in this order.
_WORDS = (
    (r"^encoder\.quant_conv\.", "quant_conv."),
    (r"^decoder\.post_quant_conv\.", "post_quant_conv."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets."),
    (r"\.down\.(\d+)\.attn\.", r".down_blocks.\1.attentions."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.up\.(\d+)\.block\.", r".up_blocks.\1.resnets."),
    (r"\.up\.(\d+)\.attn\.", r".up_blocks.\1.attentions."),
    (r"\.up\.(\d+)\.upsample\.", r".up_blocks.\1.upsamplers.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out."),
)
#: Words within an attention, of LDM and of early versions of diffusers.
_ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}
#: What stands beside the autoencoder in a whole checkpoint, and the scaling (scale, shift) of its latents.
_SCALINGS = (
    ("conditioner.embedders.", 4, 0.13025, None),  # SDXL
    ("cond_stage_model.", 4, 0.18215, None),  # Stable Diffusion 1 and 2
    ("model.diffusion_model.joint_blocks.", 16, 1.5305, 0.0609),  # Stable Diffusion 3
    ("model.diffusion_model.double_blocks.", 16, 0.3611, 0.1159),  # FLUX.1
)


def autoencoder_names(names: Iterable[str], where: Path) -> dict[str, str]:
    """The names of an autoencoder's weights in a file, by the names that diffusers' AutoencoderKL gives them.

    Prefixes (``first_stage_model.``, ``vae.``, ``module.``, ``ema.``) are found, not listed. Of several, the
    average is taken.

    Raises:
        CheckpointError: the file holds no such autoencoder, or several.
    """
    names = list(names)
    starts = sorted({name.removesuffix(_MARKERS[0]) for name in names if name.endswith(_MARKERS[0])}, key=len)
    whole = [start for start in starts if start + _MARKERS[1] in names and (not start or start.endswith("."))]
    if not whole:
        raise CheckpointError(
            f"{str(where)!r} holds no autoencoder of a known layout: there are no {' and '.join(_MARKERS)}, also behind"
            f" a prefix, among its {len(names)} tensors ({', '.join(sorted(names)[:3])}, ...); expected LDM's or BFL's"
            " layout, or diffusers' AutoencoderKL; for others, give a folder with a config.json, or a preset's"
            " kind (such as wan:FILE)"
        )
    first = whole[0]
    expected = [name.removeprefix(first) for name in names if name.startswith(first)]
    prefix = prefix_of(names, [name for name in expected if name.startswith(_PARTS)], where) or first
    behind = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    kept = [name for name in behind if name.startswith(_PARTS) and name != "bn.num_batches_tracked"]
    levels = len({name.split(".")[2] for name in kept if name.startswith("decoder.up.")})
    return {_translated(name, levels): prefix + name for name in kept}


def _translated(name: str, levels: int) -> str:
    for pattern, word in _WORDS:
        name = re.sub(pattern, word, name)
    if levels:  # LDM counts the decoder's levels from the highest resolution, diffusers from the lowest
        name = re.sub(r"\.up_blocks\.(\d+)\.", lambda match: f".up_blocks.{levels - 1 - int(match[1])}.", name)
    block, separator, rest = name.partition(".attentions.")
    index, _, word = rest.partition(".")
    kind, _, parameter = word.rpartition(".")
    return f"{block}{separator}{index}.{_ATTENTION.get(kind, kind)}.{parameter}" if separator else name


def read_single_file(path: Path) -> dict[str, Any]:
    """The configuration of the autoencoder in a file, as diffusers would write it.

    The scaling of latents is not in the weights. It is known from what else a whole checkpoint holds, or is None.

    Raises:
        CheckpointError: the file cannot be read, or holds no autoencoder of a known layout.
    """
    shapes = tensor_shapes(path)
    names = autoencoder_names(shapes, path)
    try:
        config = _config({name: tuple(shapes[own]) for name, own in names.items()}, path)
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"{str(path)!r} holds a part of an autoencoder only: {error} is missing") from None
    for marker, channels, scale, shift in _SCALINGS:
        if config["latent_channels"] == channels and any(name.startswith(marker) for name in shapes):
            return config | {"scaling_factor": scale, "shift_factor": shift}
    return config


def _config(shapes: Shapes, path: Path) -> dict[str, Any]:
    down, up = _levels(shapes, "encoder.down_blocks"), _levels(shapes, "decoder.up_blocks")
    channels = [shapes[f"encoder.down_blocks.{level}.resnets.0.conv1.weight"][0] for level in down]
    mirrored = [shapes[f"decoder.up_blocks.{level}.resnets.0.conv1.weight"][0] for level in reversed(up)]
    moments, latent = shapes["encoder.conv_out.weight"][0], shapes["decoder.conv_in.weight"][1]
    problem = ""
    if moments != 2 * latent:
        problem = f"its encoder gives {moments} channels and its decoder takes {latent}; expected twice as many"
    elif shapes.get("post_quant_conv.weight", (latent, latent))[1] != latent:
        problem = f"its latents have {shapes['post_quant_conv.weight'][1]} channels, and the decoder takes {latent}"
    elif any(width % _NORM_GROUPS for width in channels):
        problem = f"its levels have {channels} channels; expected multiples of {_NORM_GROUPS}, the groups of its norms"
    elif len(shapes["encoder.conv_in.weight"]) != 4:
        problem = "its convolutions are not those of images"
    elif mirrored != channels and "bn.running_mean" not in shapes:
        problem = f"its encoder has levels of {channels} channels, and its decoder of {mirrored}"
    if problem:
        raise CheckpointError(f"{str(path)!r} holds no AutoencoderKL: {problem}")
    config: dict[str, Any] = {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": channels,
        "down_block_types": [_block(shapes, f"encoder.down_blocks.{level}", "DownEncoderBlock2D") for level in down],
        "up_block_types": [_block(shapes, f"decoder.up_blocks.{level}", "UpDecoderBlock2D") for level in up],
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "latent_channels": latent,
        "layers_per_block": len(_levels(shapes, "encoder.down_blocks.0.resnets")),
        "norm_num_groups": _NORM_GROUPS,
        "mid_block_add_attention": "encoder.mid_block.attentions.0.to_q.weight" in shapes,
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
    }
    if "bn.running_mean" in shapes:
        extra = {} if mirrored == channels else {"decoder_block_out_channels": mirrored}
        return config | {"_class_name": "AutoencoderKLFlux2", "patch_size": [2, 2], "batch_norm_eps": 1e-4} | extra
    return config | {"scaling_factor": None, "shift_factor": None}


def _levels(shapes: Shapes, within: str) -> list[int]:
    place = within.count(".") + 1
    return sorted({int(name.split(".")[place]) for name in shapes if name.startswith(f"{within}.")})


def _block(shapes: Shapes, level: str, plain: str) -> str:
    return f"Attn{plain}" if f"{level}.attentions.0.to_q.weight" in shapes else plain
