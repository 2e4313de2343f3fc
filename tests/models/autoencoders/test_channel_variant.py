import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from skimage import data
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder, build_autoencoder
from diffusability.core.errors import SpecError
from diffusability.core.models.saved_models import load_autoencoder, save_autoencoder
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.models.autoencoders.bottleneck_surgery import principal_map

TAEF2 = Path(__file__).resolve().parents[4] / "shared" / "data" / "taef2"
PHOTOS = {"kind": "sample-photos", "resolution": 32}

BASES: dict[str, dict[str, object]] = {
    "compact-kl": {"kind": "compact-kl", "width": 16, "blocks": 1, "latent_channels": 8},
    "compact-video-kl": {"kind": "compact-video-kl", "width": 16, "blocks": 1, "latent_channels": 8},
    "taesd": {"kind": "taesd", "width": 8, "latent_channels": 8},
    "sd": {"kind": "sd", "width": 8, "latent_channels": 8},
    "flux": {"kind": "flux", "width": 8, "latent_channels": 8},
    "flux2": {"kind": "flux2", "width": 8, "latent_channels": 8},
    "cogvideox": {"kind": "cogvideox", "width": 8, "latent_channels": 8},
    "wan": {"kind": "wan", "width": 8, "latent_channels": 8},
    "hunyuan-video": {"kind": "hunyuan-video", "width": 8, "latent_channels": 8},
}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str], tuple[Autoencoder, dict[str, object]]]:
    """An autoencoder with random weights, biases included, and the spec that loads it."""

    def make(name: str) -> tuple[Autoencoder, dict[str, object]]:
        torch.manual_seed(0)
        autoencoder = build_autoencoder(AutoencoderSpec.model_validate(BASES[name]))
        with torch.no_grad():
            for key, parameter in autoencoder.named_parameters():
                if key.endswith("bias"):
                    parameter.add_(0.1 * torch.randn_like(parameter))
        save_autoencoder(autoencoder, tmp_path / "base")
        return autoencoder.eval(), {"kind": "saved", "path": tmp_path / "base"}

    return make


def variant_of(base: dict[str, object], channels: int, **settings: object) -> Autoencoder:
    spec = {"kind": "channel-variant", "autoencoder": base, "latent_channels": channels, **settings}
    return build_autoencoder(AutoencoderSpec.model_validate(spec), BuildContext(seed=3)).eval()


def images_for(autoencoder: Autoencoder, noise: Callable[..., Tensor]) -> Tensor:
    frames = (1 + autoencoder.info.temporal_factor,) if autoencoder.info.takes_clips else ()
    return noise(2, 3, *frames, 16, 16).clamp(-1, 1)


@pytest.mark.parametrize("name", list(BASES))
def test_growing_changes_no_decoded_image_and_leaves_gradients(
    name: str, saved: Callable[..., tuple[Autoencoder, dict[str, object]]], noise: Callable[..., Tensor]
) -> None:
    """Old channels and reconstruction against the base's; new channels carry something that can be learned from."""
    base, spec = saved(name)
    grown = variant_of(spec, 12)
    images = images_for(base, noise)
    latents = grown.encode(images).mode()
    expected = base.encode(images)
    assert latents.shape[1] == 12
    torch.testing.assert_close(latents[:, :8], expected.mode(), rtol=1e-3, atol=1e-4)
    if expected.logvar is not None:
        logvar = grown.encode(images).logvar
        torch.testing.assert_close(logvar[:, :8], expected.logvar, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(logvar[:, 8:], torch.full_like(logvar[:, 8:], -6))
    decoded = grown.decode(latents)
    torch.testing.assert_close(decoded, base.decode(expected.mode()), rtol=1e-2, atol=2e-3)
    torch.testing.assert_close(grown.decode(latents + torch.cat([0 * latents[:, :8], 1 + latents[:, 8:]], 1)), decoded)
    assert latents[:, 8:].std() > 0.1 * latents[:, :8].std()
    (decoded - images).square().mean().backward()
    (columns,) = [
        parameter.grad
        for key, parameter in grown.named_parameters()
        if key.removeprefix("model.").removesuffix(".conv.weight").removesuffix(".weight")
        in ("decoder.0", "decoder.layers.0", "decoder.conv_in")
        or (name == "taesd" and key == "decoder.1.weight")
    ]
    assert columns[:, 8:].abs().sum() > 0


@pytest.mark.parametrize("name", ["compact-kl", "compact-video-kl", "taesd", "sd", "cogvideox", "wan"])
def test_keeping_all_components_changes_no_decoded_image(
    name: str, saved: Callable[..., tuple[Autoencoder, dict[str, object]]], noise: Callable[..., Tensor]
) -> None:
    """With a rotation in place of a projection, the reconstruction against the base's, borders included."""
    from diffusability.models.autoencoders.bottleneck import bottleneck_of
    from diffusability.models.autoencoders.bottleneck_surgery import operate

    base, _ = saved(name)
    torch.manual_seed(1)
    rotated = build_autoencoder(AutoencoderSpec.model_validate(BASES[name])).eval()
    rotated.load_state_dict(base.state_dict())
    mixing = noise(8, 8)
    mapping = principal_map(mixing @ mixing.T, 8)
    operate(bottleneck_of(base), bottleneck_of(rotated), mapping, torch.Generator())
    images = images_for(base, noise)
    latents, expected = rotated.encode(images).mode(), base.encode(images).mode()
    torch.testing.assert_close(
        latents, torch.tensordot(mapping.to_new, expected, ([1], [1])).movedim(0, 1), rtol=1e-3, atol=1e-4
    )
    if name == "taesd":  # its soft clamp acts on each channel, and so changes under rotation
        latents = 0.01 * latents
        expected = 0.01 * expected
    torch.testing.assert_close(rotated.decode(latents), base.decode(expected), rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("name", ["compact-kl", "sd", "flux"])
def test_shrinking_by_pca_loses_less_than_dropping_channels(
    name: str, saved: Callable[..., tuple[Autoencoder, dict[str, object]]]
) -> None:
    """What is decoded after shrinking against the base's reconstruction of the same photographs, both ways."""
    base, spec = saved(name)
    photos = torch.from_numpy(data.astronaut()[:256:8, :256:8].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    lost = {}
    with torch.no_grad():
        expected = base.decode(base.encode(photos).mode())
        for how in ("pca", "drop"):
            shrunk = variant_of(spec, 3, shrink_by=how, data=PHOTOS, num_samples=16)
            latents = shrunk.encode(photos).mode()
            assert latents.shape[1] == 3
            lost[how] = (shrunk.decode(latents) - expected).square().mean()
    assert lost["pca"] < 0.8 * lost["drop"]


@pytest.mark.skipif(not TAEF2.is_dir(), reason="the published weights are not here")
def test_sixteen_components_of_a_published_autoencoder_are_worth_more_than_sixteen_channels() -> None:
    """PSNR of a photograph after shrinking TAEF2 from 32 to 16 channels by PCA of other photographs, and by drop."""
    base = {
        "kind": "taesd",
        "latent_channels": 32,
        "pooled_mid_blocks": True,
        "encoder": TAEF2 / "encoder.safetensors",
        "decoder": TAEF2 / "decoder.safetensors",
    }
    images = torch.from_numpy(data.chelsea()[:128, :128].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    psnr = {}
    for how in ("pca", "drop"):
        shrunk = variant_of(base, 16, shrink_by=how, data={"kind": "sample-photos", "resolution": 64}, num_samples=32)
        with torch.no_grad():
            decoded = shrunk.decode(shrunk.encode(images).mode()).clamp(-1, 1)
        psnr[how] = 10 * math.log10(4 / (decoded - images).square().mean())
    assert psnr["pca"] > psnr["drop"] + 2


def test_principal_components_are_those_of_the_latents() -> None:
    """The projection against the best one of all coordinates, and against the error that eigenvalues tell."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(5, 1000, generator=generator) * torch.tensor([[3.0], [0.1], [2.0], [0.2], [1.0]])
    mixed = torch.linalg.qr(torch.randn(5, 5, generator=generator))[0] @ latents
    moment = mixed @ mixed.T / 1000
    mapping = principal_map(moment, 3)
    error = (mixed - mapping.to_old @ mapping.to_new @ mixed).square().mean(1).sum()
    torch.testing.assert_close(error, torch.linalg.eigvalsh(moment)[:2].sum(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(mapping.to_new @ mapping.to_old, torch.eye(3), rtol=1e-5, atol=1e-6)


def test_weighted_components_lose_the_least_that_the_decoder_sees() -> None:
    """The weighted error against the eigenvalues left out, against plain PCA's, and mean squares against the old."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(5, 2000, generator=generator) * torch.tensor([[3.0], [2.0], [1.0], [0.5], [0.4]])
    moment = latents @ latents.T / 2000
    mixing = torch.randn(5, 5, generator=generator) * torch.tensor([0.1, 0.1, 1.0, 2.0, 4.0])
    metric = mixing.T @ mixing
    errors = []
    for mapping in (principal_map(moment, 3, metric), principal_map(moment, 3)):
        lost = latents - mapping.to_old @ mapping.to_new @ latents
        errors.append(torch.einsum("in,ij,jn->n", lost, metric, lost).mean())
        torch.testing.assert_close(mapping.to_new @ mapping.to_old, torch.eye(3), rtol=1e-4, atol=1e-5)
    left_out = torch.linalg.eigvals(metric @ moment).real.sort().values[:2].sum()
    torch.testing.assert_close(errors[0], left_out, rtol=1e-3, atol=1e-5)
    assert errors[0] < 0.5 * errors[1]
    squares = (principal_map(moment, 3, metric).to_new @ latents).square().mean(1)
    torch.testing.assert_close(squares, moment.diagonal().mean().expand(3), rtol=1e-3, atol=1e-4)


def test_a_variant_is_saved_loaded_and_exported_like_its_base(
    saved: Callable[..., tuple[Autoencoder, dict[str, object]]], tmp_path: Path, noise: Callable[..., Tensor]
) -> None:
    """Decoding by the saved model and by diffusers against the variant; the old scaling of latents is gone."""
    from diffusers import AutoencoderKL

    _, spec = saved("flux")
    shrunk = variant_of(spec, 4, shrink_by="drop")
    latents = noise(1, 4, 2, 2)
    expected = shrunk.decode(latents)
    save_autoencoder(shrunk, tmp_path / "variant")
    assert torch.equal(load_autoencoder(tmp_path / "variant").eval().decode(latents), expected)
    shrunk.export(tmp_path / "exported")
    theirs = AutoencoderKL.from_pretrained(tmp_path / "exported", low_cpu_mem_usage=False).eval()
    assert torch.equal(theirs.decode(latents).sample, expected)
    assert shrunk.published_normalizer().std.tolist() == [1.0] * 4


def test_facts_and_mistakes_are_known_before_anything_is_built() -> None:
    """Channels from the spec; PCA without data; kinds whose bottleneck is not a plain convolution."""
    spec = AutoencoderSpec.model_validate(
        {"kind": "channel-variant", "autoencoder": BASES["flux"], "latent_channels": 16}
    )
    assert spec.info(BuildContext()).latent_channels == 16
    shrinking = spec.model_copy(update={"latent_channels": 4})
    with pytest.raises(ValueError, match="4 of 8 latent channels are to be found by pca, and there is no 'data'"):
        shrinking.info(BuildContext())
    with pytest.raises(SpecError, match="shrinking by pca needs 'data'"):
        shrinking.build(BuildContext())
    for kind in ({"kind": "dct"}, {"kind": "cosmos", "width": 8}, {"kind": "flux2", "width": 8, "patchify": True}):
        with pytest.raises(SpecError, match="cannot be changed; expected compact-kl"):
            variant_of(kind, 200)
