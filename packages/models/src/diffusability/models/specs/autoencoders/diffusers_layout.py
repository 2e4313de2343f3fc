"""What a diffusers configuration says about an autoencoder, and whether a folder holds one. Free of torch."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusability.core.errors import CheckpointError, nearest
from diffusability.core.reading import read_json_object, reading
from diffusability.core.specs.build_context import AutoencoderInfo
from diffusability.core.specs.files.saved_format import AUTOENCODER_FORMAT, DENOISER_FORMAT, noun_of_class
from diffusability.models.specs.autoencoders.diffusers_classes import LAYOUTS, REFUSED, Layout
from diffusability.models.weight_files import read_header

CONFIG = "config.json"
_WEIGHTS = "diffusion_pytorch_model"
_CLASS = "_class_name"

Config = Mapping[str, Any]


def class_of(config: Config, where: str) -> str:
    """The class that a configuration is for. Raises CheckpointError when that is not a known autoencoder."""
    name = config.get(_CLASS)
    if config.get("format") == AUTOENCODER_FORMAT:
        raise CheckpointError(f"{where} is of an autoencoder that diffusability saved; use kind 'saved'")
    if isinstance(name, str) and name in REFUSED:
        raise CheckpointError(f"{where} is for class {name!r}, which is {REFUSED[name]}")
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
        steps = layout.steps(config)
        latent = config.get("vq_embed_dim") or config[layout.latent_channels]
        image = _image_channels(config, layout)
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
        **steps,
    )


def _image_channels(config: Config, layout: Layout) -> Any:
    """Channels of the images: of RGB where the model itself puts patches into channels, or has a channel for alpha."""
    channels = config.get(layout.image_channels, 3)
    patch = config.get("patch_size")
    if config[_CLASS] == "AutoencoderKLWan" and patch and isinstance(channels, int) and channels % patch**2 == 0:
        return channels // patch**2
    return channels - 1 if layout.alpha and isinstance(channels, int) else channels


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


def folder_within(root: Path, subfolder: str | None) -> Path:
    """The folder of the autoencoder in a folder: ``subfolder``, or ``vae`` in that of a whole pipeline."""
    folder = root / (subfolder or "")
    if subfolder is None and not (folder / CONFIG).is_file() and (folder / "vae" / CONFIG).is_file():
        return folder / "vae"
    return folder


def variant_of(file: Path) -> str | None:
    """The variant of a file of weights: ``fp16`` in ``diffusion_pytorch_model.fp16.safetensors``; None for none."""
    parts = file.name.removeprefix(_WEIGHTS).split(".")[1:-1]
    return re.sub(r"-\d+-of-\d+$", "", parts[-1]) if parts else None


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of an autoencoder, each looked at.

    One safetensors file, or the shards that an index names; else the only variant of them (such as ``fp16``); or else a
    torch file, which is read as weights only.

    Raises:
        CheckpointError: one is missing or cut short, or there are several variants.
    """
    plain = folder / f"{_WEIGHTS}.safetensors"
    index = folder / f"{plain.name}.index.json"
    if index.is_file():
        files = _shards(index)
    elif plain.is_file():
        files = [plain]
    else:
        indices = sorted(folder.glob(f"{plain.name}.index.*.json"))
        others = [*sorted(folder.glob(f"{_WEIGHTS}.*.safetensors")), *indices]
        variants = [file for file in others if not re.search(r"-\d+-of-\d+", file.name)]
        if not variants and (folder / f"{_WEIGHTS}.bin").is_file():
            return [folder / f"{_WEIGHTS}.bin"]
        if len(variants) > 1:
            names = ", ".join(file.name for file in variants)
            raise CheckpointError(f"{str(folder)!r} holds several variants of the weights: {names}; keep one of them")
        files = (_shards(variants[0]) if variants[0] in indices else variants) if variants else [plain]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{str(folder)!r} is incomplete: {file.name} is missing")
        read_header(file)
    return files


def _shards(index: Path) -> list[Path]:
    content = read_json_object(index, "the index of weights", CheckpointError)
    with reading("the index of weights", index, CheckpointError):
        return [index.parent / name for name in sorted(set(content["weight_map"].values()))]
