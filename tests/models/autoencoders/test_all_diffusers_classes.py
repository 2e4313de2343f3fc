"""Every autoencoder class of the installed diffusers, tiny, against diffusers' own encode and decode."""

import json
from pathlib import Path
from typing import Any

import attrs
import diffusers
import diffusers.models.autoencoders
import pytest
import torch
from torch import Tensor

from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.models.specs.autoencoders.diffusers_classes import LAYOUTS, REFUSED

IMAGENET = (torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))


@attrs.frozen
class Tiny:
    """A class at reduced width, what it takes, and the shape of its latents."""

    settings: dict[str, Any]
    images: tuple[int, ...]
    latents: tuple[int, ...]


def hunyuan(**settings: Any) -> dict[str, Any]:
    ratios = {"spatial_compression_ratio": 4, "temporal_compression_ratio": 2}
    return {"latent_channels": 4, "block_out_channels": [8, 8, 8], "layers_per_block": 1, **ratios, **settings}


def down(number: int) -> dict[str, Any]:
    return {"down_block_types": ["DownEncoderBlock2D"] * number, "up_block_types": ["UpDecoderBlock2D"] * number}


CASES = {
    "AsymmetricAutoencoderKL": Tiny(
        down(2) | {"down_block_out_channels": [8, 8], "up_block_out_channels": [8, 16], "norm_num_groups": 8},
        (3, 8, 8),
        (4, 4, 4),
    ),
    "AutoencoderKLHunyuanImage": Tiny(
        {
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 8,
            "block_out_channels": [32, 32, 32],
            "layers_per_block": 1,
            "spatial_compression_ratio": 4,
            "sample_size": 32,
            "scaling_factor": 0.7,
        },
        (3, 8, 8),
        (8, 2, 2),
    ),
    "AutoencoderKLHunyuanImageRefiner": Tiny(hunyuan(), (3, 3, 8, 8), (4, 3, 2, 2)),
    "AutoencoderKLHunyuanVideo15": Tiny(hunyuan(), (3, 5, 8, 8), (4, 3, 2, 2)),
    "AutoencoderKLKVAE": Tiny(
        {"channels": 32, "num_enc_blocks": 1, "num_dec_blocks": 1, "z_channels": 4, "ch_mult": [1, 2]},
        (3, 8, 8),
        (4, 4, 4),
    ),
    "AutoencoderKLKVAEVideo": Tiny(
        {"ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1, "z_channels": 4, "temporal_compress_times": 2},
        (3, 5, 8, 8),
        (4, 3, 4, 4),
    ),
    "AutoencoderKLAllegro": Tiny(
        {"block_out_channels": [8] * 4, "layers_per_block": 1, "norm_num_groups": 8, "sample_size": 128},
        (3, 24, 128, 128),
        (4, 6, 16, 16),
    ),
    "AutoencoderKLLTX2Video": Tiny(
        {
            "latent_channels": 8,
            "block_out_channels": [8, 16, 32, 64],
            "decoder_block_out_channels": [8, 16, 32],
            "layers_per_block": [1] * 5,
            "decoder_layers_per_block": [1] * 4,
        },
        (3, 9, 64, 64),
        (8, 2, 2, 2),
    ),
    "AutoencoderKLMagvit": Tiny(
        {"block_out_channels": [8] * 4, "layers_per_block": 1, "norm_num_groups": 8, "latent_channels": 4},
        (3, 5, 16, 16),
        (4, 2, 2, 2),
    ),
    "AutoencoderKLMiniMaxH3": Tiny(
        {
            "latent_channels": 4,
            "block_out_channels": [8] * 6,
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "decoder_num_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_attention_head_dim": 32,
            "latents_mean": [0.1, 0.2, 0.3, 0.4],
            "latents_std": [1.0, 2.0, 3.0, 4.0],
        },
        (3, 22, 32, 32),
        (4, 7, 2, 2),
    ),
    "AutoencoderKLMochi": Tiny(
        {
            "encoder_block_out_channels": [32] * 4,
            "decoder_block_out_channels": [32] * 4,
            "layers_per_block": [1] * 5,
            "add_attention_block": [False, True, True, True, True],
        },
        (3, 7, 16, 16),
        (12, 2, 2, 2),
    ),
    "AutoencoderKLQwenImage": Tiny(
        {"base_dim": 8, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}, (3, 5, 16, 16), (16, 2, 2, 2)
    ),
    "AutoencoderKLQwenImage21": Tiny(
        {"base_dim": 8, "decoder_base_dim": 8, "dim_mult": [1] * 5, "num_res_blocks": 1}, (3, 16, 16), (64, 1, 1)
    ),
    "AutoencoderKLTemporalDecoder": Tiny(
        {"down_block_types": ["DownEncoderBlock2D"] * 2, "block_out_channels": [32, 32]}, (3, 3, 8, 8), (4, 3, 4, 4)
    ),
    "AutoencoderKLWan": Tiny(
        {
            "base_dim": 8,
            "decoder_base_dim": 8,
            "z_dim": 4,
            "dim_mult": [1] * 4,
            "num_res_blocks": 1,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "is_residual": True,
            "latents_mean": [0.1, 0.2, 0.3, 0.4],
            "latents_std": [1.0, 2.0, 3.0, 4.0],
        },
        (3, 5, 32, 32),
        (4, 2, 2, 2),
    ),
    "AutoencoderRAE": Tiny(
        {
            "encoder_hidden_size": 64,
            "encoder_num_hidden_layers": 1,
            "decoder_hidden_size": 32,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 32,
            "encoder_input_size": 28,
        },
        (3, 32, 32),
        (64, 2, 2),
    ),
    "AutoencoderTiny": Tiny(
        {
            "encoder_block_out_channels": [8] * 4,
            "decoder_block_out_channels": [8] * 4,
            "num_encoder_blocks": [1] * 4,
            "num_decoder_blocks": [1] * 4,
        },
        (3, 16, 16),
        (4, 2, 2),
    ),
    "AutoencoderVidTok": Tiny({"ch": 32, "ch_mult": [1] * 4, "num_res_blocks": 1}, (3, 5, 16, 16), (4, 2, 2, 2)),
    "Kandinsky6SRVAE": Tiny(
        {
            "latent_channels": 8,
            "encoder_block_out_channels": [8] * 5,
            "decoder_block_out_channels": [8] * 5,
            "layers_per_block": 1,
        },
        (3, 5, 32, 32),
        (8, 2, 2, 2),
    ),
    "VQModel": Tiny(
        down(2) | {"block_out_channels": [8, 8], "norm_num_groups": 8, "num_vq_embeddings": 16}, (3, 8, 8), (3, 4, 4)
    ),
    "ConsistencyDecoderVAE": Tiny(
        {
            "encoder_block_out_channels": [32, 32],
            "encoder_down_block_types": ["DownEncoderBlock2D"] * 2,
            "decoder_block_out_channels": [32, 32],
            "decoder_down_block_types": ["ResnetDownsampleBlock2D"] * 2,
            "decoder_up_block_types": ["ResnetUpsampleBlock2D"] * 2,
            "decoder_layers_per_block": 1,
            "encoder_layers_per_block": 1,
        },
        (3, 16, 16),
        (4, 8, 8),
    ),
    "AutoencoderDC": Tiny(
        {
            "latent_channels": 4,
            "attention_head_dim": 8,
            "encoder_block_types": "ResBlock",
            "decoder_block_types": "ResBlock",
            "encoder_block_out_channels": [8] * 3,
            "decoder_block_out_channels": [8] * 3,
            "encoder_layers_per_block": [1] * 3,
            "decoder_layers_per_block": [1] * 3,
            "encoder_qkv_multiscales": [[]] * 3,
            "decoder_qkv_multiscales": [[]] * 3,
        },
        (3, 8, 8),
        (4, 2, 2),
    ),
}
#: Held against diffusers in test_diffusers_autoencoders.py, through their presets.
PRESETS = {
    "AutoencoderKL",
    "AutoencoderKLFlux2",
    "AutoencoderKLCogVideoX",
    "AutoencoderKLCosmos",
    "AutoencoderKLHunyuanVideo",
    "AutoencoderKLLTXVideo",
}


def test_no_class_of_the_installed_diffusers_is_forgotten() -> None:
    """The classes that diffusers exports, against those that are read here or refused, and those that are tested."""
    installed = {name for name, value in vars(diffusers.models.autoencoders).items() if isinstance(value, type)}
    assert installed - set(LAYOUTS) - set(REFUSED) == set()
    assert set(LAYOUTS) == set(CASES) | PRESETS


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_audio_is_refused_with_a_sentence(name: str) -> None:
    """The message says what the class is."""
    with pytest.raises(ValueError, match=f"{name}', which is a"):
        AutoencoderSpec.model_validate({"kind": "diffusers", "config": {"_class_name": name}})


def theirs(name: str, model: Any, images: Tensor) -> tuple[Tensor, Tensor]:  # noqa: PLR0912 - a case for each class
    """Latents and images by the class's own methods, with the pixels and frames that its pipeline gives it."""
    mean, std = (values.view(1, 3, 1, 1, 1) for values in IMAGENET)
    given = images
    if name == "AutoencoderKLMiniMaxH3":
        given = ((images + 1) / 2 - mean) / std
    elif name == "AutoencoderRAE":
        given = (images + 1) / 2
    elif name == "AutoencoderKLQwenImage21":
        given = torch.cat([images, torch.ones_like(images[:, :1])], dim=1)[:, :, None]
    elif name == "AutoencoderVidTok":
        given = torch.cat([images[:, :, :1]] * 3 + [images], dim=2)
    elif name == "AutoencoderKLTemporalDecoder":
        given = torch.cat([images[:, :, frame] for frame in range(images.shape[2])])
    encoded = model.encode(given)
    if hasattr(encoded, "latent_dist"):
        latents = encoded.latent_dist.mode()
    else:
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent
    settings: dict[str, Any] = {}
    if name == "AutoencoderKLTemporalDecoder":
        settings = {"num_frames": images.shape[2]}
    elif name == "ConsistencyDecoderVAE":
        settings = {"generator": torch.Generator().manual_seed(0)}
    decoded = model.decode(latents, **settings)
    decoded = decoded if isinstance(decoded, Tensor) else decoded.sample
    if name == "AutoencoderKLAllegro":  # its pipeline permutes the same way
        decoded = decoded.transpose(1, 2)
    elif name == "AutoencoderKLMiniMaxH3":
        decoded = (decoded * std + mean) * 2 - 1
    elif name == "AutoencoderRAE":
        decoded = decoded * 2 - 1
    elif name == "AutoencoderKLQwenImage21":
        latents, decoded = latents[:, :, 0], decoded[:, :3, 0]
    elif name == "AutoencoderKLTemporalDecoder":
        latents, decoded = (torch.stack(values.unbind(0), dim=1)[None] for values in (latents, decoded))
    return latents, decoded


def built(name: str) -> Any:
    torch.manual_seed(0)
    config = json.loads(getattr(diffusers, name)(**CASES[name].settings).to_json_string())
    spec = AutoencoderSpec.model_validate({"kind": "diffusers", "config": config})
    autoencoder = build_autoencoder(spec).eval()
    assert autoencoder.info == spec.info(BuildContext())
    return autoencoder


@pytest.mark.parametrize("name", list(CASES))
@torch.no_grad()
def test_encoding_and_decoding_are_diffusers_own_bit_for_bit(name: str) -> None:
    """Latents, images and shapes, against the class itself; scaled latents against the formula of its entries."""
    case, autoencoder = CASES[name], built(name)
    images = torch.rand(1, *case.images, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = autoencoder.encode(images).mode()
    expected, decoded = theirs(name, autoencoder.model, images)
    assert torch.equal(latents, expected)
    assert torch.equal(autoencoder.decode(latents), decoded)
    assert decoded.shape == images.shape
    assert tuple(latents.shape[1:]) == case.latents == autoencoder.info.latent_shape(case.images)
    normalizer = autoencoder.published_normalizer()
    model, config = autoencoder.model, autoencoder.config
    if name in ("AutoencoderKLKVAE", "AutoencoderKLKVAEVideo", "AutoencoderVidTok"):  # nothing is published
        assert normalizer is None
        return
    shape = (1, -1, *[1] * (latents.ndim - 2))
    if name == "AutoencoderRAE":
        scaled = latents
    elif config.get("latents_mean") is not None or name == "AutoencoderKLLTX2Video":
        source = model if name == "AutoencoderKLLTX2Video" else model.config
        mean, std = (torch.as_tensor(getattr(source, f"latents_{what}")).view(shape) for what in ("mean", "std"))
        scaled = (latents - mean) * config.get("scaling_factor", 1.0) / std
    else:
        scaled = (latents - (config.get("shift_factor") or 0.0)) * config["scaling_factor"]
    normalized = normalizer.normalize(latents)
    torch.testing.assert_close(torch.Tensor(normalized), scaled, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(normalizer.denormalize(normalized), latents, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["AutoencoderKLMiniMaxH3", "AutoencoderKLAllegro"])
def test_what_was_published_tiled_runs_tiled_and_says_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The model's own switch and the note; and tiling: false, which one class cannot do."""
    config = built(name).config
    spec = AutoencoderSpec.model_validate({"kind": "diffusers", "config": config})
    (remark,) = spec.remarks(BuildContext())
    assert "runs in overlapping tiles" in remark
    assert spec.model_copy(update={"tiling": True}).remarks(BuildContext()) == []
    assert f"{name} runs in overlapping tiles" in capsys.readouterr().err
    settings = {"kind": "diffusers", "config": config, "tiling": False}
    if name == "AutoencoderKLAllegro":
        with pytest.raises(ValueError, match="in tiles only"):
            AutoencoderSpec.model_validate(settings)
        return
    assert not build_autoencoder(AutoencoderSpec.model_validate(settings)).model.use_tiling
    assert build_autoencoder(AutoencoderSpec.model_validate(settings | {"tiling": None})).model.use_tiling


@torch.no_grad()
def test_tiles_are_those_of_diffusers() -> None:
    """MiniMax-H3 at reduced width on clips larger than its tiles: by default diffusers' own tiled encode and decode,
    by a model of its own, bit for bit; without tiling its untiled ones, which differ from them."""
    name = "AutoencoderKLMiniMaxH3"
    autoencoder = built(name)
    images = torch.rand(1, 3, 22, 96, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    decodings = {}
    for tiling in (None, False):
        spec = AutoencoderSpec.model_validate({"kind": "diffusers", "config": autoencoder.config, "tiling": tiling})
        ours = build_autoencoder(spec).eval()
        ours.load_state_dict(autoencoder.state_dict())
        model = diffusers.AutoencoderKLMiniMaxH3(**CASES[name].settings).eval()
        model.load_state_dict(autoencoder.model.state_dict())
        tiles = {"tile_sample_min_height": 64, "tile_sample_min_width": 64}
        tiles |= {"tile_sample_min_overlap_height": 16, "tile_sample_min_overlap_width": 16}
        model.enable_tiling(**tiles)
        if tiling is False:
            model.disable_tiling()
        for setting, value in tiles.items():
            setattr(ours.model, setting, value)
        latents, decoded = theirs(name, model, images)
        assert torch.equal(ours.encode(images).mode(), latents)
        decodings[tiling] = ours.decode(latents)
        assert torch.equal(decodings[tiling], decoded)
    assert (decodings[None] - decodings[False]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("AutoencoderKLMiniMaxH3", (3, 30, 32, 32), r"takes 22 \+ n \* 17: 22 or 39"),
        ("AutoencoderKLAllegro", (3, 25, 128, 128), r"takes 24 \+ n \* 16: 24 or 40"),
        ("AutoencoderKLAllegro", (3, 24, 128, 136), r"no width of 136 pixels; expected 128 \+ n \* 48: 128 or 176"),
        ("AutoencoderRAE", (3, 64, 64), "no height of 64 pixels; expected 32: 32"),
    ],
)
def test_sizes_that_a_class_would_cut_are_refused(name: str, shape: tuple[int, ...], message: str) -> None:
    """The message names the sizes next to it."""
    spec = AutoencoderSpec.model_validate(
        {"kind": "diffusers", "config": json.loads(getattr(diffusers, name)(**CASES[name].settings).to_json_string())}
    )
    with pytest.raises(ValueError, match=message):
        spec.info(BuildContext()).latent_shape(shape)


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("wan22", (48, 16, 4, True)),
        ("qwen-image", (16, 8, 4, True)),
        ("hunyuan-video-1.5", (32, 16, 4, True)),
        ("hunyuan-image", (64, 32, 1, False)),
        ("ltx2", (128, 32, 8, True)),
        ("vavae", (32, 16, 1, False)),
        ("e2e-vae", (32, 16, 1, False)),
    ],
)
def test_recent_presets_build_what_was_published(kind: str, facts: tuple[int, int, int, bool]) -> None:
    """Shape facts, and a model of diffusers' class from the configuration, on the meta device."""
    spec = AutoencoderSpec.model_validate({"kind": kind})
    info = spec.info(BuildContext())
    assert (info.latent_channels, info.spatial_factor, info.temporal_factor, info.takes_clips) == facts
    assert info.image_channels == 3
    config = {name: value for name, value in spec.published().items() if not name.startswith("_")}
    with torch.device("meta"):
        model = getattr(diffusers, spec.published()["_class_name"]).from_config(config)
    assert set(config) <= set(model.config)


@torch.no_grad()
def test_float16_is_the_precision_of_weights_not_of_the_arithmetic(tmp_path: Path) -> None:
    """Weights rounded to float16, in float32; encode and decode give float32 without a traceback."""
    autoencoder = built("VQModel")
    autoencoder.export(tmp_path)
    spec = AutoencoderSpec.model_validate({"kind": "diffusers", "path": str(tmp_path), "dtype": "float16"})
    loaded = build_autoencoder(spec).eval()
    weight = autoencoder.model.encoder.conv_in.weight
    assert torch.equal(loaded.model.encoder.conv_in.weight, weight.half().float())
    images = torch.rand(1, 3, 8, 8)
    assert loaded.decode(loaded.encode(images).mode()).dtype == torch.float32
