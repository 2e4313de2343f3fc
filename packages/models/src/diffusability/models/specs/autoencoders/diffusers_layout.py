"""What a diffusers configuration says about an autoencoder, and whether a folder holds one. Free of torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from diffusability.core.errors import CheckpointError, nearest
from diffusability.core.reading import read_json_object, reading
from diffusability.core.specs.build_context import AutoencoderInfo
from diffusability.core.specs.saved_format import AUTOENCODER_FORMAT, DENOISER_FORMAT, noun_of_class
from diffusability.models.weight_files import read_header

CONFIG = "config.json"
_WEIGHTS = "diffusion_pytorch_model"
_CLASS = "_class_name"

Config = Mapping[str, Any]


@attrs.frozen
class Layout:
    """How to read the configuration of one class of diffusers.

    Attributes:
        factors: spatial and temporal factor.
        latent_channels: name of the entry with the channels of the latents.
        image_channels: name of the entry with the channels of the images.
        clips: True when it takes clips.
    """

    factors: Callable[[Config], tuple[int, int]]
    latent_channels: str = "latent_channels"
    image_channels: str = "in_channels"
    clips: bool = False


def _levels(name: str) -> Callable[[Config], tuple[int, int]]:
    return lambda config: (2 ** (len(config[name]) - 1), 1)


def _cogvideox(config: Config) -> tuple[int, int]:
    return 2 ** (len(config["block_out_channels"]) - 1), int(config.get("temporal_compression_ratio", 4))


def _wan(config: Config) -> tuple[int, int]:
    halvings: list[bool] = config.get("temperal_downsample", [False, True, True])
    patch = config.get("patch_size") or 1
    return 2 ** len(halvings) * patch, 2 ** sum(halvings)


def _ltx(config: Config) -> tuple[int, int]:
    halvings = 2 ** sum(config["spatio_temporal_scaling"])
    spatial = config.get("spatial_compression_ratio") or config.get("patch_size", 4) * halvings
    return spatial, config.get("temporal_compression_ratio") or config.get("patch_size_t", 1) * halvings


def _ratios(config: Config) -> tuple[int, int]:
    return config["spatial_compression_ratio"], config["temporal_compression_ratio"]


#: The classes that can be used, by name.
LAYOUTS: Mapping[str, Layout] = {
    "AutoencoderKL": Layout(_levels("block_out_channels")),
    "AutoencoderKLFlux2": Layout(_levels("block_out_channels")),
    "AutoencoderTiny": Layout(_levels("encoder_block_out_channels")),
    "AutoencoderDC": Layout(_levels("encoder_block_out_channels")),
    "AutoencoderKLCogVideoX": Layout(_cogvideox, clips=True),
    "AutoencoderKLWan": Layout(_wan, latent_channels="z_dim", clips=True),
    "AutoencoderKLQwenImage": Layout(_wan, latent_channels="z_dim", image_channels="input_channels", clips=True),
    "AutoencoderKLLTXVideo": Layout(_ltx, clips=True),
    "AutoencoderKLCosmos": Layout(_ratios, clips=True),
    "AutoencoderKLHunyuanVideo": Layout(_ratios, clips=True),
}


def class_of(config: Config, where: str) -> str:
    """The class that a configuration is for. Raises CheckpointError when that is not a known autoencoder."""
    name = config.get(_CLASS)
    if config.get("format") == AUTOENCODER_FORMAT:
        raise CheckpointError(f"{where} is of an autoencoder that diffusability saved; use kind 'saved'")
    if config.get("format") == DENOISER_FORMAT or noun_of_class(name) == "denoiser":
        whose = "that diffusability saved" if name is None else f"of diffusers ({name})"
        raise CheckpointError(f"{where} is of a denoiser {whose}; expected an autoencoder")
    if not isinstance(name, str) or name not in LAYOUTS:
        known = list(LAYOUTS)
        raise CheckpointError(
            f"{where} is for class {name!r}, which is not a supported autoencoder; {nearest(name, known)}expected"
            f" one of {', '.join(known)}"
        )
    return str(name)


def info_of(config: Config, patchify: bool = False) -> AutoencoderInfo:
    """The shape facts of a configuration of a known class; ``patchify`` puts 2 by 2 latent pixels into channels.

    Raises:
        CheckpointError: an entry that tells them is missing or of a wrong type.
    """
    layout = LAYOUTS[config[_CLASS]]
    side = 2 if patchify else 1
    try:
        spatial, temporal = layout.factors(config)
        latent, image = config[layout.latent_channels], config.get(layout.image_channels, 3)
    except KeyError as error:
        raise CheckpointError(f"the configuration of an {config[_CLASS]} lacks {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"the configuration of an {config[_CLASS]} has values of a wrong type: {error}") from None
    facts = {"channels of latents": latent, "channels of images": image, "factor": spatial, "frames to one": temporal}
    for what, value in facts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(
                f"the configuration of an {config[_CLASS]} makes the {what} {value!r}; expected 1 or more"
            )
    return AutoencoderInfo(
        latent_channels=latent * side**2,
        spatial_factor=spatial * side,
        temporal_factor=temporal,
        image_channels=image,
        takes_clips=layout.clips,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration in a folder.

    Raises:
        CheckpointError: there is none, it is not JSON, or it is for something else than a known autoencoder.
    """
    path = folder / CONFIG
    if not path.is_file():
        hint = "it holds a whole pipeline: name the part with subfolder, often 'vae'; " if is_pipeline(folder) else ""
        raise CheckpointError(
            f"{str(folder)!r} holds no autoencoder: {CONFIG} is missing; {hint}expected what diffusers' save_pretrained"
            f" writes: {CONFIG} and {_WEIGHTS}.safetensors"
        )
    config = read_json_object(path, "the configuration of an autoencoder", CheckpointError)
    class_of(config, repr(str(path)))
    try:
        info_of(config)
    except CheckpointError as error:
        raise CheckpointError(f"{str(path)!r}: {error}") from None
    return config


def is_pipeline(folder: Path) -> bool:
    """True for the folder of a whole pipeline of diffusers."""
    return (folder / "model_index.json").is_file()


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of an autoencoder, each looked at.

    One safetensors file, or the shards that an index names, or else a torch file, which is read as weights only.

    Raises:
        CheckpointError: one is missing or cut short.
    """
    index = folder / f"{_WEIGHTS}.safetensors.index.json"
    if index.is_file():
        content = read_json_object(index, "the index of weights", CheckpointError)
        with reading("the index of weights", index, CheckpointError):
            files = [folder / name for name in sorted(set(content["weight_map"].values()))]
    else:
        files = [folder / f"{_WEIGHTS}.safetensors"]
        if not files[0].is_file() and (folder / f"{_WEIGHTS}.bin").is_file():
            return [folder / f"{_WEIGHTS}.bin"]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{str(folder)!r} is incomplete: {file.name} is missing")
        read_header(file)
    return files
