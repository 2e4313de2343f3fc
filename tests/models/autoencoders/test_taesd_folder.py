import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec


def spec(**fields):
    return AutoencoderSpec.model_validate({"kind": "taesd", **fields})


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    made = spec(latent_channels=12, width=8, pooled_mid_blocks=True).build(BuildContext())
    for half in ("encoder", "decoder"):
        weights = {name: value.clone() for name, value in getattr(made, half).state_dict().items()}
        save_file(weights, tmp_path / f"{half}.safetensors")
    return tmp_path, made


def test_a_folder_tells_the_layout_of_its_weights(folder):
    """The built model against the one whose weights were written."""
    path, made = folder
    read = spec(path=str(path))
    assert (read.latent_channels, read.width, read.pooled_mid_blocks) == (12, 8, True)
    loaded = read.build(BuildContext())
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in made.state_dict().items())


def test_a_folder_without_both_halves_is_refused(folder):
    path, _ = folder
    (path / "decoder.safetensors").unlink()
    with pytest.raises(ValidationError, match=r"lacks decoder\.safetensors"):
        spec(path=str(path))


def test_a_folder_with_other_weights_is_refused(tmp_path):
    for half in ("encoder", "decoder"):
        save_file({"something.else": torch.zeros(1)}, tmp_path / f"{half}.safetensors")
    with pytest.raises(ValidationError, match="not the encoder of a Tiny AutoEncoder"):
        spec(path=str(tmp_path))
