import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from diffusers import AutoencoderRAE
from safetensors.torch import save_file
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.engine.adversarial.last_layer import LastLayer
from diffusability.core.errors import CheckpointError
from diffusability.core.models.saved_models import load_autoencoder
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.models.autoencoders.representation.autoencoder import RAE
from diffusability.models.specs.autoencoders.rae import DECODER_SIZES, RAESpec

DINO, MAE = "vit_base_patch14_reg4_dinov2", "vit_base_patch16_224.mae"
TINY = {"embed_dim": 64, "depth": 2, "num_heads": 2}
SMALL_DECODER = {"size": "Ti", "depth": 2, "width": 64, "patch_size": 8}


def spec_of(model: str = DINO, pretrained: str = "random", **decoder: Any) -> RAESpec:
    encoder = {"kind": "timm", "model": model, "pretrained": pretrained, "options": TINY}
    spec = AutoencoderSpec.model_validate({"kind": "rae", "encoder": encoder, "decoder": {**SMALL_DECODER, **decoder}})
    assert isinstance(spec, RAESpec)
    return spec


def built(spec: RAESpec) -> RAE:
    torch.manual_seed(0)
    autoencoder = build_autoencoder(spec)
    assert isinstance(autoencoder, RAE)
    return autoencoder


@pytest.mark.parametrize("model", [DINO, "vit_base_patch16_dinov3", MAE, "vit_base_patch16_siglip_256.v2_webli"])
def test_latents_are_the_patch_tokens_of_timm(model: str, noise: Callable[..., Tensor]) -> None:
    """Images resized and normalised by hand, timm's own tokens without its final norm's weights, class and register
    tokens left out; images need not be square."""
    autoencoder = built(spec_of(model))
    images = noise(2, 3, 32, 48).clamp(-1, 1)
    latents = autoencoder.encode(images).mode()
    plain = timm.create_model(model, num_classes=0, global_pool="", dynamic_img_size=True, **TINY).eval()
    plain.load_state_dict(autoencoder.encoder.network.state_dict(), strict=False)
    plain.norm = nn.Identity()
    patch = plain.patch_embed.patch_size[0]
    pixels = F.interpolate((images + 1) / 2, (4 * patch, 6 * patch), mode="bicubic")
    mean, std = (torch.tensor(plain.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    tokens = plain.forward_features((pixels - mean) / std)[:, -24:]
    tokens = (tokens - tokens.mean(-1, keepdim=True)) / tokens.std(-1, correction=0, keepdim=True)
    expected = tokens.transpose(1, 2).reshape(2, 64, 4, 6)
    torch.testing.assert_close(latents, expected, rtol=1e-3, atol=1e-4)
    assert autoencoder.decode(latents).shape == images.shape


def in_timms_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A DINOv2 with registers of transformers, of version 4 or 5, under timm's names."""
    table = {
        "embeddings.register_tokens": "reg_token",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "embeddings.cls_token": "cls_token",
        "encoder.layer.": "blocks.",
        "attention.output.dense": "attn.proj",
        "attention.o_proj": "attn.proj",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
    }
    renamed = {}
    for theirs, value in weights.items():
        name = theirs
        for old, new in table.items():
            name = name.replace(old, new)
        renamed[name] = value
    for triple in (("attention.query", "attention.key", "attention.value"), ("q_proj", "k_proj", "v_proj")):
        for name in [name for name in renamed if f"attention.{triple[0]}." in name]:
            parts = [renamed.pop(name.replace(triple[0], part)) for part in triple]
            renamed[name.replace(f"attention.{triple[0]}", "attn.qkv")] = torch.cat(parts)
    positions = renamed.pop("embeddings.position_embeddings")
    renamed["cls_token"] = renamed["cls_token"] + positions[:, :1]
    renamed["pos_embed"] = positions[:, 1:]
    return {name: value for name, value in renamed.items() if "mask_token" not in name}


def test_the_encoder_is_that_of_diffusers(tmp_path: Path) -> None:
    """diffusers' AutoencoderRAE runs transformers' DINOv2 with registers; the same weights, renamed, from a file."""
    torch.manual_seed(0)
    theirs = AutoencoderRAE(
        encoder_hidden_size=64, encoder_num_hidden_layers=2, encoder_input_size=518, decoder_hidden_size=64
    ).eval()
    with torch.no_grad():
        for parameter in theirs.encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_file(in_timms_names(theirs.encoder.state_dict()), tmp_path / "dino.safetensors")
    encoder = {"kind": "timm", "model": DINO, "pretrained": str(tmp_path / "dino.safetensors")}
    options = {"embed_dim": 64, "depth": 2, "num_heads": 1, "img_size": 518}
    spec = RAESpec.model_validate(
        {"kind": "rae", "encoder": {**encoder, "options": options}, "decoder": {**SMALL_DECODER, "patch_size": 14}}
    )
    images = torch.rand(1, 3, 518, 518)
    with torch.no_grad():
        expected = theirs.encode(images).latent
        torch.testing.assert_close(built(spec).encode(2 * images - 1).mode(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", ["diffusers", "authors"])
def test_published_decoders_decode_as_diffusers_does(tmp_path: Path, layout: str) -> None:
    """A decoder of diffusers' AutoencoderRAE with random weights, from a file in its own and in the authors' layout,
    with mean and standard deviation of the encoder's images."""
    torch.manual_seed(0)
    theirs = AutoencoderRAE(
        encoder_type="mae",
        encoder_hidden_size=64,
        encoder_num_hidden_layers=1,
        encoder_patch_size=16,
        encoder_input_size=256,
        decoder_hidden_size=64,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=1,
        decoder_intermediate_size=256,
        patch_size=4,
        encoder_norm_mean=[0.485, 0.456, 0.406],
        encoder_norm_std=[0.229, 0.224, 0.225],
    ).eval()
    with torch.no_grad():
        for parameter in theirs.decoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    weights = dict(theirs.decoder.state_dict())
    if layout == "authors":
        names = {"to_q": "attention.query", "to_k": "attention.key", "to_v": "attention.value"}
        for short, long in {**names, "to_out.0": "output.dense"}.items():
            weights = {name.replace(f"attention.{short}", f"attention.{long}"): v for name, v in weights.items()}
        torch.save({"model": weights}, tmp_path / "model.pt")
    else:
        save_file({f"decoder.{name}": value for name, value in weights.items()}, tmp_path / "model.safetensors")
    file = next(tmp_path.iterdir())
    latents = torch.randn(2, 64, 16, 16)
    autoencoder = built(decoder_of(file))
    with torch.no_grad():
        expected = 2 * theirs.decode(latents).sample - 1
        torch.testing.assert_close(autoencoder.decode(latents), expected, rtol=1e-4, atol=1e-4)
    assert decoder_of(file).is_pretrained(BuildContext())
    with pytest.raises(CheckpointError, match="holds a decoder of 2 blocks; this one has 3"):
        decoder_of(file, depth=3).build(BuildContext())
    with pytest.raises(CheckpointError, match=r"see decoder\.size and decoder\.patch_size"):
        decoder_of(file, patch_size=8).build(BuildContext())


def decoder_of(file: Path, **changes: Any) -> RAESpec:
    encoder = {"kind": "timm", "model": DINO, "pretrained": "random", "options": TINY}
    decoder = {**SMALL_DECODER, "patch_size": 4, "pretrained": str(file), **changes}
    return RAESpec.model_validate({"kind": "rae", "encoder": encoder, "decoder": decoder})


@pytest.mark.parametrize("size", sorted(DECODER_SIZES))
def test_parameters_in_closed_form(size: str) -> None:
    """Against the decoder of diffusers of that size, and against what is built, on tensors without content."""
    dimensions = DECODER_SIZES[size]
    spec = RAESpec.model_validate(
        {"kind": "rae", "encoder": {"model": DINO, "pretrained": "random"}, "decoder": {"size": size}}
    )
    with torch.device("meta"):
        built_here = spec.build(BuildContext(untrained=True))
        theirs = AutoencoderRAE(
            encoder_num_hidden_layers=1,
            decoder_hidden_size=dimensions.width,
            decoder_num_hidden_layers=dimensions.depth,
            decoder_num_attention_heads=dimensions.num_heads,
            decoder_intermediate_size=dimensions.mlp_size,
        )
    count = sum(parameter.numel() for parameter in built_here.parameters())
    assert spec.num_parameters(BuildContext()) == count
    assert sum(parameter.numel() for parameter in built_here.decoder.parameters()) == sum(
        parameter.numel() for parameter in theirs.decoder.parameters()
    )
    info = spec.info(BuildContext())
    assert info is not None
    assert (info.latent_channels, info.latent_shape((3, 256, 256))) == (768, (768, 16, 16))


def test_weights_from_a_file_and_the_saved_model_without_it(tmp_path: Path, noise: Callable[..., Tensor]) -> None:
    """timm's file with a final norm, a head and another wrapper's prefix; then saved, the file removed, and loaded."""
    whole = timm.create_model(MAE, num_classes=10, **TINY)
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    file = tmp_path / "mae.safetensors"
    save_file({f"module.{name}": value for name, value in whole.state_dict().items()}, file)
    autoencoder = built(spec_of(MAE, str(file)))
    own = autoencoder.encoder.network.state_dict()
    assert "norm.weight" not in own
    for name, value in own.items():
        torch.testing.assert_close(value, whole.state_dict()[name])

    autoencoder.save(tmp_path / "saved")
    file.unlink()
    shutil.move(tmp_path / "saved", tmp_path / "elsewhere")
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["config.json", "model.safetensors"]
    assert str(tmp_path) not in (tmp_path / "elsewhere" / "config.json").read_text()
    again = load_autoencoder(tmp_path / "elsewhere")
    images = noise(1, 3, 32, 32)
    with torch.no_grad():
        latents = autoencoder.encode(images).mode()
        torch.testing.assert_close(again.encode(images).mode(), latents, rtol=0, atol=0)
        torch.testing.assert_close(again.decode(latents), autoencoder.decode(latents), rtol=0, atol=0)


def test_the_encoder_never_trains(noise: Callable[..., Tensor]) -> None:
    """No gradients, eval mode, and the two halves by name; the decoder has a gradient everywhere."""
    autoencoder = built(spec_of()).train()
    assert not any(module.training for module in autoencoder.encoder.modules())
    images = noise(1, 3, 16, 16)
    autoencoder.decode(autoencoder.encode(images).mode()).square().mean().backward()
    for name, parameter in autoencoder.named_parameters():
        part = autoencoder.part_of(name)
        assert (parameter.grad is not None) == parameter.requires_grad == (part == "decoder")


def test_the_last_layer_for_the_adaptive_weight(noise: Callable[..., Tensor]) -> None:
    """Its gradient, from the gradient at the reconstruction, against autograd."""
    autoencoder = built(spec_of())
    last = LastLayer(autoencoder)
    last.watch()
    images = autoencoder.decode(noise(2, 64, 2, 3))
    images.retain_grad()
    (images.square() * noise(*images.shape, seed=2)).sum().backward()
    assert images.grad is not None
    (gradient,) = last.weight_gradients(images.grad)
    torch.testing.assert_close(gradient, autoencoder.decoder.pixels.weight.grad, rtol=1e-4, atol=1e-4)


def test_what_is_random_is_said(tmp_path: Path) -> None:
    """Of both halves, of one, of none; a fresh decoder's tail is not frozen, so it does not count as pretrained."""
    assert spec_of().random_weights() == "all weights"
    assert spec_of(pretrained=str(tmp_path / "x.safetensors")).random_weights() == "weights of the decoder"
    assert decoder_of(tmp_path / "x.pt").random_weights() == "weights of the encoder"
    assert not spec_of(pretrained=str(tmp_path / "x.safetensors")).is_pretrained(BuildContext())


def test_errors_name_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, weights without a name, models of timm, and weights of another network."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    cases = [
        (spec_of(pretrained=str(tmp_path / "dino.safetensors")), f"there is no file '{tmp_path}/dino.safetensors'"),
        (RAESpec.model_validate({"encoder": {"model": DINO}}), "expected pretrained: a file of weights, or a name"),
        (
            RAESpec.model_validate({"encoder": {"model": f"{DINO}.lvd142m"}}),
            f"needs 'model.safetensors' of 'timm/{DINO}.lvd142m', and Hugging Face's cache does not hold it",
        ),
        (spec_of("vit_base_patch14_reg4_dinov"), "timm has no model .*did you mean vit_base_patch14_reg4_dinov2"),
        (spec_of(f"{DINO}.lvd999"), f"timm has no weights '{DINO}.lvd999'; it knows {DINO}.lvd142m"),
        (spec_of("resnet18"), "timm cannot build 'resnet18'"),
        (decoder_of(tmp_path / "model.pt"), f"there is no file '{tmp_path}/model.pt'"),
    ]
    for spec, message in cases:
        with pytest.raises(ValueError, match=message):
            spec.check_inputs()
    unknown = spec_of("vit_base_patch14_reg4_dinov")
    assert (unknown.info(BuildContext()), unknown.num_parameters(BuildContext())) == (None, None)
    save_file(timm.create_model(MAE, **{**TINY, "depth": 3}).state_dict(), tmp_path / "mae.safetensors")
    with pytest.raises(CheckpointError, match=r"does not hold the weights of 'vit_base_patch16_224\.mae': .*blocks\.2"):
        spec_of(MAE, str(tmp_path / "mae.safetensors")).build(BuildContext())
    with pytest.raises(ValueError, match="rae decodes latents of shape"):
        built(spec_of()).decode(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="multiple of 64"):
        spec_of(width=100)
    assert spec_of(pretrained=str(tmp_path / "mae.safetensors")).files_read()["encoder"].root.name == "mae.safetensors"


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One finding, and shape facts that are unknown rather than an ImportError."""
    whole = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "timm" else whole(name, *rest))
    with pytest.raises(ValueError, match=r"needs the package 'timm', .*'diffusability-models\[rae\]'"):
        spec_of().check_inputs()
    assert spec_of().info(BuildContext()) is None
