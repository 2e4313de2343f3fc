"""Autoencoders from the user's own file: what they may return, what probing infers, and when their code runs."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder, build_autoencoder
from diffusability.core.errors import DiffusabilityError
from diffusability.core.models.saved_models import load_autoencoder, save_autoencoder
from diffusability.core.scoring.named_autoencoders import named_autoencoders
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec

SOURCE = """
import torch
from torch import nn


class Mine(nn.Module):
    def __init__(self, returns):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Conv2d(3, 8, 4, stride=4)
        self.decoder = nn.ConvTranspose2d(4, 3, 4, stride=4)
        self.returns = returns

    def encode(self, images):
        mean, logvar = self.encoder(images).chunk(2, dim=1)
        if self.returns == "tensor":
            return mean
        if self.returns == "pair":
            return mean, logvar
        return torch.distributions.Normal(mean, (0.5 * logvar).exp())

    def decode(self, latents):
        if self.returns == "text":
            return "no images"
        return self.decoder(latents)


def build(returns="pair"):
    return Mine(returns)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "my_autoencoder.py"
    path.write_text(SOURCE)
    return path


def spec_of(path: Path, returns: str, **fields: object) -> AutoencoderSpec:
    content = {"kind": "python", "target": f"{path}:build", "options": {"returns": returns}, **fields}
    return AutoencoderSpec.model_validate(content)


def images() -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def built(path: Path, returns: str) -> Autoencoder:
    return build_autoencoder(spec_of(path, returns)).eval()


@pytest.mark.parametrize("returns", ["tensor", "pair", "distribution"])
@torch.no_grad()
def test_each_convention_is_read_and_factors_are_found(source: Path, returns: str) -> None:
    """Mean and log variance against the module's own convolution; factors against its stride."""
    autoencoder, given = built(source, returns), images()
    posterior = autoencoder.encode(given)
    mean, logvar = autoencoder.model.encoder(given).chunk(2, dim=1)
    torch.testing.assert_close(posterior.mean, mean)
    assert (posterior.logvar is None) == (returns == "tensor")
    if posterior.logvar is not None:
        torch.testing.assert_close(posterior.logvar, logvar, rtol=1e-5, atol=1e-5)
    assert autoencoder.decode(mean).shape == given.shape
    info = spec_of(source, returns).info(BuildContext())
    assert info == autoencoder.info
    assert info is not None
    assert (info.latent_channels, info.spatial_factor, info.temporal_factor, info.takes_clips) == (4, 4, 1, False)


def test_what_else_it_decodes_is_named(source: Path) -> None:
    """A string in place of images."""
    with pytest.raises((DiffusabilityError, ValueError), match="str"):
        built(source, "text").decode(torch.zeros(1, 4, 2, 2))


@torch.no_grad()
def test_a_saved_one_carries_its_source_and_runs_it_only_when_trusted(source: Path, tmp_path: Path) -> None:
    """Saved, moved, the original removed: refused with the file's name, and equal once trusted."""
    autoencoder, given = built(source, "pair"), images()
    save_autoencoder(autoencoder, tmp_path / "saved")
    shutil.move(tmp_path / "saved", tmp_path / "elsewhere")
    source.unlink()
    with pytest.raises(DiffusabilityError, match=r"my_autoencoder\.py.*trust_code: true"):
        load_autoencoder(tmp_path / "elsewhere")
    again = load_autoencoder(tmp_path / "elsewhere", trust_code=True).eval()
    assert torch.equal(again.encode(given).mean, autoencoder.encode(given).mean)


@torch.no_grad()
def test_a_checkpoint_fills_it(source: Path, tmp_path: Path) -> None:
    """Weights with a prefix that training code adds, against the module that they are of."""
    module = built(source, "pair").model
    changed = {f"module.{name}": value + 1 for name, value in module.state_dict().items()}
    save_file(changed, tmp_path / "weights.safetensors")
    filled = build_autoencoder(spec_of(source, "pair", checkpoint=str(tmp_path / "weights.safetensors")))
    assert torch.equal(filled.model.encoder.bias, module.encoder.bias + 1)


def test_the_source_is_among_the_files_that_decide(source: Path) -> None:
    """Another line in the file is another content of the stage."""
    spec = spec_of(source, "pair")
    files = {str(file.root / name) for file in spec.files_read().values() for name in (file.names or ("",))}
    assert any(file.rstrip("/.").endswith("my_autoencoder.py") for file in files)


def test_it_is_named_on_the_command_line(source: Path) -> None:
    """The path and a name in it; what is not there is an error with the names that are."""
    (named,) = named_autoencoders([f"{source}:build"])
    assert named.spec["kind"] == "python"
    assert str(source) in str(named.spec["target"])
    with pytest.raises(ValueError, match="defines no 'make'"):
        AutoencoderSpec.model_validate({"kind": "python", "target": f"{source}:make"}).check_inputs()
