"""The image and video autoencoder classes of diffusers, and how to read the configuration of each. Free of torch."""

from collections.abc import Callable, Mapping
from math import ceil, prod
from typing import Any, Literal

import attrs

from diffusability.core.specs.build_context import Steps

Config = Mapping[str, Any]
_ALLEGRO_FRAMES, _ALLEGRO_OVERLAPS = 24, (8, 120, 80)


def _no_steps(config: Config) -> dict[str, Steps]:
    return {}


@attrs.frozen
class Layout:
    """How to read the configuration of one class of diffusers, and what its ``encode`` and ``decode`` expect.

    Attributes:
        factors: spatial and temporal factor.
        latent_channels: name of the entry with the channels of the latents.
        image_channels: name of the entry with the channels of the images.
        clips: True when it takes clips.
        steps: numbers of frames, heights and widths that it takes, where those are not as usual.
        pixels: the range of its pixels: [-1, 1]; [0, 1]; or [0, 1] with the mean and deviation of ImageNet.
        frames: ``one``: it takes images as clips of one frame; ``padded``: the first frame is repeated before a clip,
            one time less than the temporal factor; ``batch``: frames are encoded one by one, and decoded together.
        alpha: True when its images have a fourth channel, which is 1 for those that have three.
        noise: True when its decoder draws noise: always the same here.
        tiled: True when it was published tiled: its tiles are on unless they are turned off.
    """

    factors: Callable[[Config], tuple[int, int]]
    latent_channels: str = "latent_channels"
    image_channels: str = "in_channels"
    clips: bool = False
    steps: Callable[[Config], dict[str, Steps]] = _no_steps
    pixels: Literal["signed", "unit", "imagenet"] = "signed"
    frames: Literal["plain", "one", "padded", "batch"] = "plain"
    alpha: bool = False
    noise: bool = False
    tiled: bool = False


def _levels(name: str) -> Callable[[Config], tuple[int, int]]:
    return lambda config: (2 ** (len(config[name]) - 1), 1)


def _levels_and(name: str, temporal: str) -> Callable[[Config], tuple[int, int]]:
    return lambda config: (2 ** (len(config[name]) - 1), int(config[temporal]))


def _cogvideox(config: Config) -> tuple[int, int]:
    return 2 ** (len(config["block_out_channels"]) - 1), int(config.get("temporal_compression_ratio", 4))


def _wan(config: Config) -> tuple[int, int]:
    halvings: list[bool] = config.get("temperal_downsample", [False, True, True])
    patch = config.get("patch_size") or 1
    return 2 ** len(halvings) * patch, 2 ** sum(halvings)


def _qwen_2_1(config: Config) -> tuple[int, int]:
    return _wan(config)[0], 1  # of images only


def _ltx(config: Config) -> tuple[int, int]:
    halvings = 2 ** sum(config["spatio_temporal_scaling"])
    spatial = config.get("spatial_compression_ratio") or config.get("patch_size", 4) * halvings
    return spatial, config.get("temporal_compression_ratio") or config.get("patch_size_t", 1) * halvings


def _ltx2(config: Config) -> tuple[int, int]:
    kinds = [
        kind for kind, used in zip(config["downsample_type"], config["spatio_temporal_scaling"], strict=False) if used
    ]
    spatial = config["patch_size"] * 2 ** sum(kind != "temporal" for kind in kinds)
    return spatial, config["patch_size_t"] * 2 ** sum(kind != "spatial" for kind in kinds)


def _ratios(config: Config) -> tuple[int, int]:
    return config["spatial_compression_ratio"], config["temporal_compression_ratio"]


def _spatial_ratio(config: Config) -> tuple[int, int]:
    return config["spatial_compression_ratio"], 1  # the refiner keeps frames, whatever its temporal ratio says


def _mochi(config: Config) -> tuple[int, int]:
    return prod(config["spatial_expansions"]), prod(config["temporal_expansions"])


def _magvit(config: Config) -> tuple[int, int]:
    levels = len(config["block_out_channels"])
    return 2 ** (levels - 1), 2 ** (levels - 2)


def _vidtok(config: Config) -> tuple[int, int]:
    levels = len(config["ch_mult"])
    halved, shortened = config.get("spatial_ds"), config.get("tempo_ds")
    return 2 ** (levels - 1 if halved is None else len(halved)), 2 ** (2 if shortened is None else len(shortened))


def _vidtok_steps(config: Config) -> dict[str, Steps]:
    if config.get("is_causal", True):
        return {}
    factor = _vidtok(config)[1]
    chunk = 16 // factor  # diffusers decodes whole chunks of 16 frames and drops the rest
    return {"frames": Steps(first=16, step=16, latent_first=chunk, latent_step=chunk)}


def _minimax(config: Config) -> tuple[int, int]:
    return prod(config["spatial_downsample_factors"]), prod(config["temporal_downsample_factors"])


def _minimax_steps(config: Config) -> dict[str, Steps]:
    """Clips of ``17 n + 5`` frames: two chunks at least, whose ends overlap by what ``token_drop`` leaves."""
    length, dropped, factor = config["clip_length"], config["token_drop"], _minimax(config)[1]
    tokens = ceil(length / factor)
    overlap = max((-dropped) % tokens * factor - (-length) % factor, 0)
    first = 2 * tokens - dropped
    return {"frames": Steps(first=length + overlap, step=length, latent_first=first, latent_step=tokens)}


def _allegro_steps(config: Config) -> dict[str, Steps]:
    """Whole tiles of 24 frames and ``sample_size`` pixels, which overlap: diffusers drops what lies beyond."""
    spatial, temporal = _levels_and("block_out_channels", "temporal_compression_ratio")(config)
    firsts = (_ALLEGRO_FRAMES, config["sample_size"], config["sample_size"])
    factors = (temporal, spatial, spatial)
    steps = {}
    for name, first, overlap, factor in zip(
        ("frames", "height", "width"), firsts, _ALLEGRO_OVERLAPS, factors, strict=True
    ):
        step = first - overlap
        steps[name] = Steps(first=first, step=step, latent_first=first // factor, latent_step=step // factor)
    return steps


def _rae_steps(config: Config) -> dict[str, Steps]:
    """The one size that its decoder gives."""
    tokens = config["encoder_input_size"] // config["encoder_patch_size"]
    only = Steps(first=tokens * config["patch_size"], step=0, latent_first=tokens, latent_step=0)
    return {"height": only, "width": only}


def _rae(config: Config) -> tuple[int, int]:
    return config["patch_size"], 1


#: The classes that can be used, by name.
LAYOUTS: Mapping[str, Layout] = {
    "AutoencoderKL": Layout(_levels("block_out_channels")),
    "AutoencoderKLFlux2": Layout(_levels("block_out_channels")),
    "AutoencoderTiny": Layout(_levels("encoder_block_out_channels")),
    "AutoencoderDC": Layout(_levels("encoder_block_out_channels")),
    "AsymmetricAutoencoderKL": Layout(_levels("down_block_out_channels")),
    "VQModel": Layout(_levels("block_out_channels")),
    "ConsistencyDecoderVAE": Layout(
        _levels("encoder_block_out_channels"), image_channels="encoder_in_channels", noise=True
    ),
    "AutoencoderKLHunyuanImage": Layout(_spatial_ratio),
    "AutoencoderKLKVAE": Layout(_levels("ch_mult"), latent_channels="z_channels"),
    "AutoencoderKLQwenImage21": Layout(_qwen_2_1, latent_channels="z_dim", frames="one", alpha=True),
    "AutoencoderRAE": Layout(
        _rae, latent_channels="encoder_hidden_size", image_channels="num_channels", steps=_rae_steps, pixels="unit"
    ),
    "AutoencoderKLCogVideoX": Layout(_cogvideox, clips=True),
    "AutoencoderKLWan": Layout(_wan, latent_channels="z_dim", clips=True),
    "AutoencoderKLQwenImage": Layout(_wan, latent_channels="z_dim", image_channels="input_channels", clips=True),
    "AutoencoderKLLTXVideo": Layout(_ltx, clips=True),
    "AutoencoderKLLTX2Video": Layout(_ltx2, clips=True),
    "AutoencoderKLCosmos": Layout(_ratios, clips=True),
    "AutoencoderKLHunyuanVideo": Layout(_ratios, clips=True),
    "AutoencoderKLHunyuanVideo15": Layout(_ratios, clips=True),
    "AutoencoderKLHunyuanImageRefiner": Layout(_spatial_ratio, clips=True),
    "AutoencoderKLKVAEVideo": Layout(
        _levels_and("ch_mult", "temporal_compress_times"), latent_channels="z_channels", clips=True
    ),
    "Kandinsky6SRVAE": Layout(_levels_and("encoder_block_out_channels", "temporal_compression_ratio"), clips=True),
    "AutoencoderKLMagvit": Layout(_magvit, clips=True),
    "AutoencoderKLMochi": Layout(_mochi, image_channels="out_channels", clips=True),
    "AutoencoderVidTok": Layout(
        _vidtok, latent_channels="z_channels", clips=True, steps=_vidtok_steps, frames="padded"
    ),
    "AutoencoderKLTemporalDecoder": Layout(_levels("block_out_channels"), clips=True, frames="batch"),
    "AutoencoderKLAllegro": Layout(
        _levels_and("block_out_channels", "temporal_compression_ratio"), clips=True, steps=_allegro_steps, tiled=True
    ),
    "AutoencoderKLMiniMaxH3": Layout(_minimax, clips=True, steps=_minimax_steps, pixels="imagenet", tiled=True),
}

_AUDIO = "an autoencoder of audio, and images and videos are measured here"
#: Classes beside them that are not autoencoders of images or videos, and why they are refused.
REFUSED: Mapping[str, str] = {
    "AutoencoderKLKVAEAudio": _AUDIO,
    "AutoencoderKLLTX2Audio": _AUDIO,
    "AutoencoderKLMiniMaxH3Audio": _AUDIO,
    "AutoencoderOobleck": _AUDIO,
    "AutoencoderSAME": _AUDIO,
    "Cosmos3AVAEAudioTokenizer": _AUDIO,
    "LongCatAudioDiTVae": _AUDIO,
    "MMAudioVAE": _AUDIO,
    "MMAudioVocoder": "a vocoder of audio, and images and videos are measured here",
    "MiniMaxMusic3Vocoder": "a vocoder of audio, and images and videos are measured here",
    "RFD4ProteinaAutoencoder": "an autoencoder of proteins, and images and videos are measured here",
    "LTX2VideoDiffusionDecoderModel": "a decoder without an encoder; use AutoencoderKLLTX2Video",
}
