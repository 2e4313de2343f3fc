import math
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from skimage import data
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.errors import CheckpointError
from diffusability.core.models.saved_models import load_autoencoder, save_autoencoder
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.autoencoders.taesd import Taesd, diffusers_weights
from diffusability.models.specs.autoencoders.taesd import TaesdSpec

TAEF2 = Path(__file__).resolve().parents[4] / "shared" / "data" / "taef2"


def tiny(**settings: object) -> Taesd:
    torch.manual_seed(0)
    autoencoder = build_autoencoder(TaesdSpec(**{"width": 8, **settings}))
    assert isinstance(autoencoder, Taesd)
    return autoencoder


@pytest.mark.skipif(not TAEF2.is_dir(), reason="the published weights are not here")
@pytest.mark.parametrize(("photograph", "expected_db"), [("astronaut", 31.8), ("chelsea", 31.2), ("coffee", 28.8)])
def test_published_weights_reconstruct_photographs(photograph: str, expected_db: float) -> None:
    """PSNR of the first 256 by 256 pixels, on 8-bit values, against what the published model reaches."""
    spec = TaesdSpec(
        latent_channels=32,
        pooled_mid_blocks=True,
        encoder=TAEF2 / "encoder.safetensors",
        decoder=TAEF2 / "decoder.safetensors",
    )
    spec.check_inputs()
    autoencoder = spec.build(BuildContext())
    pixels = torch.from_numpy(getattr(data, photograph)()[:256, :256].copy())
    images = pixels.permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        latents = autoencoder.encode(images).mode()
        reconstruction = autoencoder.decode(latents).clamp(-1, 1)
    assert latents.shape == (1, 32, 32, 32)
    assert 10 * math.log10(4 / (reconstruction - images).square().mean()) == pytest.approx(expected_db, abs=0.06)


def test_encoding_and_decoding_equal_diffusers_bit_for_bit(noise: Callable[..., Tensor]) -> None:
    """Latents and images against diffusers' AutoencoderTiny with the same weights."""
    autoencoder = tiny(latent_channels=4)
    theirs = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
    theirs.load_state_dict(diffusers_weights(autoencoder))
    images = noise(2, 3, 32, 48).clamp(-1, 1)
    latents = autoencoder.encode(images).mode()
    assert torch.equal(latents, theirs.encode(images).latents)
    assert torch.equal(autoencoder.decode(3 * latents), theirs.decode(3 * latents).sample)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_files_and_stay_with_the_saved_model(
    pooled: bool, suffix: str, tmp_path: Path, noise: Callable[..., Tensor]
) -> None:
    """Decoding after loading half-precision files, and after saving and losing them, against the first model's."""
    first = tiny(latent_channels=6, pooled_mid_blocks=pooled).half().float()
    for name in ("encoder", "decoder"):
        state = {key: value.half() for key, value in getattr(first, name).state_dict().items()}
        save_file(state, tmp_path / f"{name}.safetensors") if suffix == ".safetensors" else torch.save(
            state, tmp_path / f"{name}.pth"
        )
    paths = {name: tmp_path / f"{name}{suffix}" for name in ("encoder", "decoder")}
    second = tiny(latent_channels=6, pooled_mid_blocks=pooled, **paths)
    save_autoencoder(second, tmp_path / "model")
    for path in paths.values():
        path.unlink()
    third = load_autoencoder(tmp_path / "model")
    latents = noise(1, 6, 3, 2)
    assert torch.equal(second.decode(latents), first.decode(latents))
    assert torch.equal(third.decode(latents), first.decode(latents))


@pytest.mark.parametrize("pooled", [False, True])
def test_parameters_are_counted_without_building(pooled: bool) -> None:
    """The closed form against the module's own count."""
    spec = TaesdSpec(latent_channels=5, width=8, pooled_mid_blocks=pooled)
    built = sum(parameter.numel() for parameter in spec.build(BuildContext()).parameters())
    assert spec.num_parameters(BuildContext()) == built


def test_the_tail_is_the_convolution_that_runs_last(noise: Callable[..., Tensor]) -> None:
    """The tail against the order in which hooks saw the decoder's convolutions."""
    autoencoder = tiny()
    seen: list[nn.Module] = []
    for module in autoencoder.decoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, *_: seen.append(module))
    autoencoder.decode(noise(1, 4, 2, 2))
    assert list(autoencoder.decoder_tail()) == seen[-1:]


class Command:
    """What a malicious pickle would hold."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def test_a_pickle_of_more_than_tensors_is_refused(tmp_path: Path) -> None:
    """A pickled call in a torch file: named, not run."""
    torch.save({"0.weight": Command()}, tmp_path / "encoder.pth")
    with pytest.raises(CheckpointError, match=r"encoder.pth' is refused: a pickle may run code"):
        tiny(encoder=tmp_path / "encoder.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"weights": Command()}))
    with pytest.raises(CheckpointError, match=r"plain.pth' (is refused|cannot be read)"):
        tiny(encoder=tmp_path / "plain.pth")


def test_a_file_cut_short_is_found_before_anything_starts(tmp_path: Path) -> None:
    """Whole, cut in the data, cut in the header, empty, and a header that is not JSON."""
    path = tmp_path / "decoder.safetensors"
    save_file(tiny().decoder.state_dict(), path)
    whole = path.read_bytes()
    TaesdSpec(decoder=path).check_inputs()
    for content, message in (
        (whole[:-10], r"is cut short or damaged: it has [\d,]+ of [\d,]+ bytes; download it again"),
        (whole[:100], "is not a whole safetensors file"),
        (b"", "is not a whole safetensors file"),
        (struct.pack("<Q", 4) + b"<htm", "is not a safetensors file"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            TaesdSpec(decoder=path).check_inputs()
        with pytest.raises(CheckpointError, match=message):
            tiny(decoder=path)


def test_weights_of_another_layout_are_named(tmp_path: Path) -> None:
    """Sixteen latent channels where the spec says four; a missing file; an unknown format."""
    save_file(tiny(latent_channels=16).decoder.state_dict(), tmp_path / "decoder.safetensors")
    with pytest.raises(CheckpointError, match=r"with 4 latent channels: size mismatch for 1.weight"):
        tiny(decoder=tmp_path / "decoder.safetensors")
    with pytest.raises(ValueError, match="there is no file"):
        TaesdSpec(encoder=tmp_path / "absent.pth").check_inputs()
    with pytest.raises(ValueError, match="is of no known format"):
        TaesdSpec(encoder=tmp_path / "encoder.onnx").check_inputs()


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 3, 20, 16), "not divisible"), ((1, 3, 1, 16, 16), r"\(b, c, h, w\), got"), ((1, 1, 16, 16), "1 channels")],
)
def test_images_that_do_not_fit_are_refused(shape: tuple[int, ...], message: str) -> None:
    """The message names what was given and what was expected."""
    with pytest.raises(ValueError, match=message):
        tiny().encode(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"\(b, 4, h, w\), got \(1, 3, 2, 2\)"):
        tiny().decode(torch.zeros(1, 3, 2, 2))
