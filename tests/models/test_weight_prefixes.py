import json

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from diffusability.core.errors import CheckpointError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.files.saved_format import AUTOENCODER_FORMAT, DENOISER_FORMAT, problem_of_format
from diffusability.core.weight_prefixes import prefix_of, without_prefix
from diffusability.models.autoencoders.taesd import load_half
from diffusability.models.specs.autoencoders.diffusers import DiffusersSpec
from diffusability.models.specs.autoencoders.diffusers_layout import read_config
from diffusability.models.specs.autoencoders.taesd import TaesdSpec
from diffusability.models.weight_files import read_weight_file

PREFIXES = [
    "module.",
    "_orig_mod.",
    "ema.",
    "model.",
    "first_stage_model.",
    "module._orig_mod.",
    "state_dict.vae.",
    "x.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_of_all_names_is_stripped_and_said(prefix, tmp_path, capsys):
    """A half of a Tiny AutoEncoder whose names are wrapped, against the one that was saved."""
    half = TaesdSpec(width=8).build(BuildContext()).encoder
    other = TaesdSpec(width=8).build(BuildContext()).encoder
    save_file({prefix + name: value for name, value in half.state_dict().items()}, tmp_path / "a.safetensors")
    load_half(other, tmp_path / "a.safetensors", 4)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in half.state_dict().items())
    assert f"the prefix {prefix!r}" in capsys.readouterr().err


def test_a_checkpoint_with_a_state_dict_inside_is_read(tmp_path):
    """Nested dictionaries, as trainers save them, with numbers beside."""
    half = TaesdSpec(width=8).build(BuildContext()).encoder
    torch.save({"epoch": 3, "state_dict": dict(half.state_dict())}, tmp_path / "a.pt")
    other = TaesdSpec(width=8).build(BuildContext()).encoder
    load_half(other, tmp_path / "a.pt", 4)
    assert torch.equal(half[0].weight, other[0].weight)
    assert "state_dict.0.weight" in read_weight_file(tmp_path / "a.pt")


def test_of_several_copies_the_average_is_taken_or_they_are_named():
    """model and ema; two without a sign; none."""
    names = ["a.w", "b.w"]
    assert prefix_of([f"{p}.{n}" for p in ("model", "ema") for n in names], names, "f") == "ema."
    with pytest.raises(CheckpointError, match=r"several times, under 'one\.', 'two\.'"):
        prefix_of([f"{p}.{n}" for p in ("one", "two") for n in names], names, "f")
    assert without_prefix({"a.w": 1}, names, "f") == {"a.w": 1}
    assert without_prefix({"x.a.w": 1}, names, "f") == {"x.a.w": 1}


def test_an_autoencoder_of_diffusers_behind_a_prefix_is_filled(tmp_path, capsys):
    """Against the model that was saved."""
    sizes = {"block_out_channels": (8,), "norm_num_groups": 4, "layers_per_block": 1}
    model = AutoencoderKL(down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",), **sizes)
    model.save_pretrained(tmp_path)
    wrapped = {f"first_stage_model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    save_file(wrapped, tmp_path / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    built = DiffusersSpec(path=str(tmp_path)).build(BuildContext())
    assert torch.equal(built.model.encoder.conv_in.weight, model.encoder.conv_in.weight)
    assert "first_stage_model." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "wanted", "message"),
    [
        (
            {"format": DENOISER_FORMAT},
            AUTOENCODER_FORMAT,
            "a denoiser that diffusability saved; expected an",
        ),
        (
            {"format": AUTOENCODER_FORMAT},
            DENOISER_FORMAT,
            "an autoencoder that diffusability saved; expected",
        ),
        ({"_class_name": "UNet2DConditionModel"}, AUTOENCODER_FORMAT, "a denoiser of diffusers"),
        ({"_class_name": "AutoencoderKL"}, DENOISER_FORMAT, "an autoencoder of diffusers"),
        ({"_class_name": "AutoencoderKL"}, AUTOENCODER_FORMAT, "use kind 'diffusers'"),
        ({"format": AUTOENCODER_FORMAT}, AUTOENCODER_FORMAT, "is damaged"),
    ],
)
def test_a_denoiser_for_an_autoencoder_is_named_and_the_reverse(config, wanted, message):
    """By the format of ours and the class of diffusers."""
    assert message in (problem_of_format(config, wanted) or "")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "DiTTransformer2DModel"}, "of a denoiser of diffusers"),
        ({"_class_name": "UNet2DModel"}, "of a denoiser of diffusers"),
        ({"format": DENOISER_FORMAT}, "of a denoiser that diffusability saved"),
        ({"format": AUTOENCODER_FORMAT}, "use kind 'saved'"),
        ({"_class_name": "AutoencoderKL", "latent_channels": 4}, "lacks 'block_out_channels'"),
        ({"_class_name": "AutoencoderKL", "block_out_channels": [8]}, "lacks 'latent_channels'"),
        ({"_class_name": "AutoencoderKL", "block_out_channels": 8, "latent_channels": 4}, "wrong type"),
        ({"_class_name": "AutoencoderKLWan"}, "lacks 'z_dim'"),
    ],
)
def test_a_configuration_that_is_no_autoencoders_is_explained(config, message, tmp_path):
    """Before anything starts."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        read_config(tmp_path)
