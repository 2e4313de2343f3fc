"""Autoencoders in single files and in unusual folders, against the same weights loaded from a folder of diffusers."""

import json
import re
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.scoring.named_autoencoders import check_named, named_autoencoders
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.models.specs.autoencoders.single_file import autoencoder_names

#: Layouts as published, with levels of 32 channels.
LAYOUTS: dict[str, dict[str, Any]] = {
    "sd": {"levels": 4, "latent_channels": 4},
    "flux": {"levels": 4, "latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False},
    "f16d32": {"levels": 5, "latent_channels": 32, "attention": True},
    "flux2": {"levels": 4, "latent_channels": 32},
}


def model(layout: str) -> Any:
    """A model of diffusers in that layout, with one residual block a level."""
    settings = dict(LAYOUTS[layout])
    levels, attention = settings.pop("levels"), settings.pop("attention", False)
    down, up = ["DownEncoderBlock2D"] * levels, ["UpDecoderBlock2D"] * levels
    if attention:
        down[-1], up[0] = "AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D"
    torch.manual_seed(0)
    kind = diffusers.AutoencoderKLFlux2 if layout == "flux2" else diffusers.AutoencoderKL
    made = kind(
        block_out_channels=[32] * levels, down_block_types=down, up_block_types=up, layers_per_block=1, **settings
    )
    for name, buffer in made.named_buffers():
        if name.startswith("bn.running"):
            buffer.uniform_(0.5, 2)
    return made.eval()


def original(made: Any, layout: str) -> dict[str, Tensor]:
    """The weights under the names that LDM and BFL give them, with attentions as convolutions."""
    levels = LAYOUTS[layout]["levels"]
    rules = [
        (r"mid_block\.resnets\.0", "mid.block_1"),
        (r"mid_block\.resnets\.1", "mid.block_2"),
        (r"mid_block\.attentions\.0", "mid.attn_1"),
        (r"up_blocks\.(\d)\.", lambda match: f"up.{levels - 1 - int(match[1])}."),
        (r"down_blocks\.(\d)\.", r"down.\1."),
        (r"resnets\.", "block."),
        (r"attentions\.", "attn."),
        (r"(down|up)samplers\.0", r"\1sample"),
        ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
        ("group_norm", "norm"),
        (r"to_out\.0", "proj_out"),
        (r"to_([qkv])\.", r"\1."),
    ]
    original_weights = {}
    for ours, tensor in made.state_dict().items():
        name, value = ours, tensor
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        if re.search(r"\.(q|k|v|proj_out)\.weight$", name):
            value = value[:, :, None, None]
        if layout == "flux2":
            name = re.sub(r"^quant_conv", "encoder.quant_conv", name)
            name = re.sub(r"^post_quant_conv", "decoder.post_quant_conv", name)
        original_weights[name] = value.contiguous()
    return original_weights


def spec_of(path: Path, kind: str = "diffusers", **settings: Any) -> AutoencoderSpec:
    spec = AutoencoderSpec.model_validate({"kind": kind, "path": str(path), **settings})
    spec.check_inputs()
    return spec


@torch.no_grad()
def same(made: Any, spec: AutoencoderSpec) -> Any:
    """The autoencoder of a spec, after a look at whether it encodes and decodes as the model does, bit for bit."""
    autoencoder = build_autoencoder(spec).eval()
    assert autoencoder.info == spec.info(BuildContext())
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = autoencoder.encode(images).mode()
    assert torch.equal(latents, made.encode(images).latent_dist.mode())
    assert torch.equal(autoencoder.decode(latents), made.decode(latents).sample)
    return autoencoder


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_a_single_file_is_what_a_folder_with_the_same_weights_is(layout: str, tmp_path: Path) -> None:
    """The original's names, in safetensors; its architecture is read from the shapes."""
    made = model(layout)
    save_file(original(made, layout), tmp_path / "ae.safetensors")
    autoencoder = same(made, spec_of(tmp_path / "ae.safetensors"))
    made.save_pretrained(tmp_path / "folder")
    folder = same(made, spec_of(tmp_path / "folder"))
    assert folder.info == autoencoder.info
    if layout == "flux2":
        ours, theirs = autoencoder.published_normalizer(), folder.published_normalizer()
        assert torch.equal(ours.mean, theirs.mean)
        assert torch.equal(ours.std, theirs.std)
    else:
        assert autoencoder.published_normalizer() is None  # nothing in the file says it


@pytest.mark.parametrize("layout", ["sd", "flux"])
def test_names_are_those_of_diffusers_conversion(layout: str) -> None:
    """The map of names, against the conversion that diffusers has for this layout."""
    made = model(layout)
    weights = original(made, layout)
    expected = convert_ldm_vae_checkpoint(dict(weights), dict(made.config))
    names = autoencoder_names(weights, Path("x"))
    assert set(names) == set(expected)
    for name, own in names.items():
        assert torch.equal(weights[own].reshape(expected[name].shape), expected[name])


@pytest.mark.parametrize("prefix", ["first_stage_model.", "vae.", "module.", "_orig_mod.", "ema.", "module.ema."])
@pytest.mark.parametrize("names", ["original", "diffusers"])
def test_prefixes_are_stripped(prefix: str, names: str, tmp_path: Path) -> None:
    """Names of LDM and of diffusers behind a wrapper's prefix, in torch files and in safetensors."""
    made = model("sd")
    weights = original(made, "sd") if names == "original" else made.state_dict()
    prefixed = {prefix + name: value for name, value in weights.items()}
    torch.save(prefixed, tmp_path / "model.pt")
    same(made, spec_of(tmp_path / "model.pt"))


def test_a_whole_checkpoint_tells_the_scaling_and_only_the_autoencoder_is_read(tmp_path: Path) -> None:
    """Beside SDXL's and Stable Diffusion's text encoders; and through presets, whatever else is in the file."""
    made = model("sd")
    weights = {f"first_stage_model.{name}": value for name, value in original(made, "sd").items()}
    for marker, scale in (("conditioner.embedders.0.x", 0.13025), ("cond_stage_model.x", 0.18215)):
        save_file(
            weights | {marker: torch.zeros(1), "model.diffusion_model.x": torch.zeros(1)}, tmp_path / "m.safetensors"
        )
        autoencoder = same(made, spec_of(tmp_path / "m.safetensors"))
        assert autoencoder.published_normalizer().std.tolist() == pytest.approx([1 / scale] * 4)
    save_file(weights, tmp_path / "m.safetensors")
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "m.ckpt")
    for path in (tmp_path / "m.safetensors", tmp_path / "m.ckpt"):
        for kind, scale in (("sd", 0.18215), ("sdxl", 0.13025)):
            autoencoder = same(made, spec_of(path, kind))
            assert autoencoder.published_normalizer().std.tolist() == pytest.approx([1 / scale] * 4)
    with pytest.raises(ValueError, match="of 4 latent channels, and kind 'flux' has 16"):
        spec_of(tmp_path / "m.safetensors", "flux")


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    """A pickle of more than weights, another model, a half of one, and a missing file: a sentence each."""
    torch.save({"weights": Path("x")}, tmp_path / "evil.ckpt")
    save_file({"blocks.0.weight": torch.zeros(2)}, tmp_path / "dit.safetensors")
    weights = original(model("sd"), "sd")
    half = {name: value for name, value in weights.items() if "up.3" not in name}
    save_file(half, tmp_path / "half.safetensors")
    for name, message in (
        ("evil.ckpt", "a pickle may run code when loaded"),
        ("dit.safetensors", "holds no autoencoder of a known layout"),
        ("half.safetensors", "holds no AutoencoderKL: its encoder has levels of"),
        ("missing.safetensors", "there is no file"),
    ):
        with pytest.raises(ValueError, match=message):
            spec_of(tmp_path / name)
    save_file({name: value for name, value in weights.items() if "norm_out" not in name}, tmp_path / "n.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: decoder\.conv_norm_out\.bias"):
        build_autoencoder(spec_of(tmp_path / "n.safetensors"))


def test_variants_shards_and_pipelines_load(tmp_path: Path) -> None:
    """fp16 weights only, whole and in shards with an index, in the 'vae' of a pipeline; two variants are refused."""
    made = model("sd").half().float()
    for place, settings in (("whole", {}), ("shards", {"max_shard_size": "200KB"})):
        made.half().save_pretrained(tmp_path / place / "vae", variant="fp16", **settings)
        made.float()
        folder = tmp_path / place
        assert len(list((folder / "vae").glob("*.fp16*.safetensors"))) == 1 or place == "shards"
        (folder / "model_index.json").write_text("{}")
        same(made, spec_of(folder))
        (named,) = named_autoencoders([str(folder)])
        assert named.spec == {"kind": "diffusers", "path": str(folder / "vae")}
    file = tmp_path / "whole" / "vae" / "diffusion_pytorch_model.fp16.safetensors"
    same(made, spec_of(file))  # with the config.json beside it
    save_file(load_file(file), file.with_name("diffusion_pytorch_model.bf16.safetensors"))
    with pytest.raises(ValueError, match="several variants of the weights"):
        spec_of(tmp_path / "whole")


def test_files_and_hub_ids_are_named_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, with a label and by a preset; an id, which offline is an error without traceback."""
    save_file(original(model("sd"), "sd"), tmp_path / "kl.safetensors")
    file = str(tmp_path / "kl.safetensors")
    resolved = named_autoencoders([file, f"mine:{file}", f"sdxl:{file}", "owner/some-vae"])
    assert [named.label for named in resolved] == ["kl", "mine", "sdxl-kl-safetensors", "some-vae"]
    kinds = ["diffusers", "diffusers", "sdxl", "diffusers"]
    paths = [file, file, file, "owner/some-vae"]
    assert [(named.spec["kind"], named.spec["path"]) for named in resolved] == list(zip(kinds, paths, strict=True))
    for named in resolved:
        check_named(named)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="'owner/some-vae' is not a local folder, and cannot be fetched"):
        build_autoencoder(AutoencoderSpec.model_validate(resolved[-1].spec))
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    for missing in ("runs/mine", "other/kl.safetensors"):
        with pytest.raises(SpecError):
            named_autoencoders([missing])


def test_a_file_of_another_class_is_read_by_diffusers_conversion(tmp_path: Path) -> None:
    """A file under diffusers' own names, by its preset's configuration; and its identity is the file's."""
    spec = AutoencoderSpec.model_validate({"kind": "diffusers", "config": json.loads(model("sd").to_json_string())})
    made = build_autoencoder(spec).model.eval()
    save_file(made.state_dict(), tmp_path / "sd.safetensors")
    loaded = spec_of(tmp_path / "sd.safetensors")
    same(made, loaded)
    assert loaded.files_read()["path"].root == tmp_path / "sd.safetensors"
