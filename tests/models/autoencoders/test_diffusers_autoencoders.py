"""Autoencoders of diffusers at reduced width, against diffusers' own classes and what its pipelines do with them."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import diffusers
import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from diffusability.core.contracts.autoencoder import Autoencoder, build_autoencoder
from diffusability.core.errors import CheckpointError
from diffusability.core.models.saved_models import load_autoencoder, save_autoencoder
from diffusability.core.plugins import registry
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.models.specs.autoencoders.presets import PresetSpec


@attrs.frozen
class Preset:
    """A preset at reduced width, the size of its images, its published facts, and how its pipeline scales latents."""

    info: AutoencoderInfo
    normalize: Callable[[Any, Tensor], Tensor]
    denormalize: Callable[[Any, Tensor], Tensor]
    size: int = 16
    frames: int | None = None
    settings: Mapping[str, object] = {"width": 8}


def image(channels: int, factor: int = 8) -> AutoencoderInfo:
    return AutoencoderInfo(latent_channels=channels, spatial_factor=factor)


def clip(channels: int, factor: int, frames: int) -> AutoencoderInfo:
    return AutoencoderInfo(latent_channels=channels, spatial_factor=factor, temporal_factor=frames, takes_clips=True)


def by_channel(values: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(values).view(1, like.shape[1], -1, *[1] * (like.ndim - 3))


SCALED = (lambda model, z: z * model.config.scaling_factor, lambda model, z: z / model.config.scaling_factor)
SHIFTED = (
    lambda model, z: (z - model.config.shift_factor) * model.config.scaling_factor,
    lambda model, z: z / model.config.scaling_factor + model.config.shift_factor,
)


def wan_normalize(model: Any, z: Tensor) -> Tensor:
    return (z - by_channel(model.config.latents_mean, z)) * (1.0 / by_channel(model.config.latents_std, z))


def wan_denormalize(model: Any, z: Tensor) -> Tensor:
    return z / (1.0 / by_channel(model.config.latents_std, z)) + by_channel(model.config.latents_mean, z)


def cosmos_statistics(model: Any, z: Tensor) -> tuple[Tensor, Tensor]:
    shape = (1, model.config.latent_channels, -1, 1, 1)
    mean, std = (torch.tensor(getattr(model.config, name)).view(shape) for name in ("latents_mean", "latents_std"))
    return mean[:, :, : z.shape[2]], std[:, :, : z.shape[2]]


def cosmos_normalize(model: Any, z: Tensor) -> Tensor:
    mean, std = cosmos_statistics(model, z)
    return (z - mean) * 0.5 / std


def cosmos_denormalize(model: Any, z: Tensor) -> Tensor:
    mean, std = cosmos_statistics(model, z)
    return z * std / 0.5 + mean


def ltx(name: str) -> Callable[[Any, Tensor], Tensor]:
    def apply(model: Any, z: Tensor) -> Tensor:
        scale = getattr(diffusers.LTXPipeline, name)
        return scale(z, model.latents_mean, model.latents_std, model.config.scaling_factor)

    return apply


def flux2_normalize(model: Any, z: Tensor) -> Tensor:
    std = torch.sqrt(model.bn.running_var.view(1, -1, 1, 1) + model.config.batch_norm_eps)
    return (z - model.bn.running_mean.view(1, -1, 1, 1)) / std


def flux2_denormalize(model: Any, z: Tensor) -> Tensor:
    std = torch.sqrt(model.bn.running_var.view(1, -1, 1, 1) + model.config.batch_norm_eps)
    return z * std + model.bn.running_mean.view(1, -1, 1, 1)


PRESETS = {
    "flux": Preset(image(16), *SHIFTED),
    "sd": Preset(image(4), *SCALED),
    "sdxl": Preset(image(4), *SCALED),
    "sd3": Preset(image(16), *SHIFTED),
    "flux2": Preset(image(128, 16), flux2_normalize, flux2_denormalize, 32, None, {"width": 8, "patchify": True}),
    "dc-ae": Preset(image(32, 32), *SCALED, 32),
    "cogvideox": Preset(clip(16, 8, 4), *SCALED, 16, 17),
    "wan": Preset(clip(16, 8, 4), wan_normalize, wan_denormalize, 16, 9),
    "ltx-video": Preset(clip(128, 32, 8), ltx("_normalize_latents"), ltx("_denormalize_latents"), 32, 9),
    "cosmos": Preset(clip(16, 8, 8), cosmos_normalize, cosmos_denormalize, 16, 9),
    "hunyuan-video": Preset(clip(16, 8, 4), *SCALED, 16, 5),
}


def spec_of(kind: str, **settings: object) -> AutoencoderSpec:
    return AutoencoderSpec.model_validate({"kind": kind, **PRESETS[kind].settings, **settings})


def built(kind: str, **settings: object) -> Autoencoder:
    torch.manual_seed(0)
    return build_autoencoder(spec_of(kind, **settings)).eval()


def images_for(kind: str, count: int = 1) -> Tensor:
    preset = PRESETS[kind]
    frames = () if preset.frames is None else (preset.frames,)
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, *frames, preset.size, preset.size, generator=generator) * 2 - 1


def theirs(autoencoder: Any) -> Any:
    """A model that diffusers makes itself of the configuration, with the same weights."""
    config = json.loads(autoencoder.model.to_json_string())
    model = getattr(diffusers, config["_class_name"]).from_config({k: v for k, v in config.items() if k[0] != "_"})
    model.load_state_dict(autoencoder.model.state_dict())
    return model.eval()


@pytest.mark.parametrize("kind", list(PRESETS))
@torch.no_grad()
def test_encoding_and_decoding_equal_the_pipelines_bit_for_bit(kind: str) -> None:
    """Latents, log variances and images against diffusers' class; scaled latents against its pipeline's formula."""
    preset, autoencoder, images = PRESETS[kind], built(kind), images_for(kind)
    assert autoencoder.info == preset.info == spec_of(kind).info(BuildContext())
    if kind == "flux2":
        for buffer in (autoencoder.model.bn.running_mean, autoencoder.model.bn.running_var):
            buffer.uniform_(0.5, 2.0)
    model = theirs(autoencoder)
    encoded = model.encode(images)
    latents = encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mode()
    raw = latents
    if kind == "flux2":
        latents = diffusers.Flux2Pipeline._patchify_latents(latents)
    posterior = autoencoder.encode(images)
    assert torch.equal(posterior.mode(), latents)
    assert posterior.mode().shape[1:] == preset.info.latent_shape(tuple(images.shape[1:]))
    if hasattr(getattr(encoded, "latent_dist", None), "logvar") and kind != "flux2":
        assert torch.equal(posterior.logvar, encoded.latent_dist.logvar)
    else:
        assert kind == "flux2" or posterior.logvar is None
    decoded = autoencoder.decode(latents)
    assert torch.equal(decoded, model.decode(raw).sample)
    assert decoded.shape == images.shape
    normalizer = autoencoder.published_normalizer()
    assert normalizer is not None
    normalized = normalizer.normalize(latents)
    torch.testing.assert_close(torch.Tensor(normalized), preset.normalize(model, latents), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(normalizer.denormalize(normalized), latents, rtol=1e-5, atol=1e-5)
    back = preset.denormalize(model, torch.Tensor(normalized))
    torch.testing.assert_close(normalizer.denormalize(normalized), back, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(autoencoder.decode(normalizer.denormalize(normalized)), decoded, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", list(PRESETS))
def test_the_decoder_tail_is_what_runs_last(kind: str) -> None:
    """The tail against the decoder's convolution and normalisation that hooks saw last."""
    autoencoder = built(kind)
    seen: list[torch.nn.Module] = []
    for module in autoencoder.model.decoder.modules():
        kind_of_layer = type(module).__name__.lower()
        if ("conv" in kind_of_layer or "norm" in kind_of_layer) and not list(module.children()):
            module.register_forward_hook(lambda module, *_: seen.append(module))
    with torch.no_grad():
        autoencoder.decode(autoencoder.encode(images_for(kind)).mode())
    tail = {leaf for module in autoencoder.decoder_tail() for leaf in module.modules()} & set(seen)
    assert tail
    assert set(seen[-len(tail) :]) == tail


def recompute(block: torch.nn.Module) -> None:
    """What the engine does to a block whose activations it does not keep."""
    block.forward = partial(checkpoint, block.forward, use_reentrant=False)


@pytest.mark.parametrize("kind", [kind for kind in PRESETS if kind not in ("sd", "sdxl", "sd3")])
def test_activation_checkpointing_changes_no_gradient(kind: str) -> None:
    """Gradients of every parameter with and without it, over several chunks of frames where there are caches."""
    gradients = []
    for checkpointing in (False, True):
        autoencoder = built(kind).train()
        blocks = list(autoencoder.repeated_blocks())
        assert len(blocks) > 1
        within = [module for block in blocks for module in block.modules()]
        assert len(within) == len(set(within))
        names = [name for name, _ in autoencoder.named_parameters()]
        if checkpointing:
            for block in blocks:
                recompute(block)
        posterior = autoencoder.encode(images_for(kind))
        (autoencoder.decode(posterior.mode()).square().mean() + posterior.mode().square().mean()).backward()
        gradients.append({name: parameter.grad for name, parameter in autoencoder.named_parameters()})
        assert list(gradients[-1]) == names
    for name, expected in gradients[0].items():
        if expected is not None:
            torch.testing.assert_close(gradients[1][name], expected, rtol=1e-4, atol=1e-6, msg=name)


@torch.no_grad()
def test_cogvideox_decodes_as_many_frames_as_it_encoded() -> None:
    """Frames of clips of 1 + 4n, odd and even n, against the clip's; one latent frame of image size alike."""
    autoencoder = built("cogvideox")
    for frames in (1, 5, 9, 13):
        latents = autoencoder.encode(torch.rand(1, 3, frames, 16, 16)).mode()
        assert latents.shape[2] == 1 + (frames - 1) // 4
        assert autoencoder.decode(latents).shape[2] == frames
    assert torch.equal(autoencoder.decode(latents), theirs(autoencoder).decode(latents).sample[:, :, 3:])


def test_wan_in_training_is_wan_without_the_clamp() -> None:
    """Training mode against eval mode: the same posterior, and clips that agree once clamped; gradients flow."""
    autoencoder = built("wan")
    with torch.no_grad():
        autoencoder.model.decoder.conv_out.weight.mul_(50)
    clips = images_for("wan")
    latents = autoencoder.encode(clips).mode().detach()
    clamped = autoencoder.decode(latents)
    autoencoder.train()
    torch.testing.assert_close(autoencoder.encode(clips).mode(), latents)
    free = autoencoder.decode(latents.requires_grad_())
    assert (free.abs() > 1).float().mean() > 0.1
    torch.testing.assert_close(free.clamp(-1, 1), clamped, rtol=1e-4, atol=1e-5)
    free[free.abs() > 1].sum().backward()
    assert latents.grad.abs().sum() > 0


def test_qwen_images_autoencoder_trains_likewise() -> None:
    """The class of Qwen-Image through its configuration: training mode against eval mode."""
    config = {"_class_name": "AutoencoderKLQwenImage", "base_dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4]}
    torch.manual_seed(0)
    autoencoder = build_autoencoder(AutoencoderSpec.model_validate({"kind": "diffusers", "config": config})).eval()
    clips = images_for("wan")
    latents = autoencoder.encode(clips).mode()
    decoded = autoencoder.decode(latents)
    autoencoder.train()
    torch.testing.assert_close(autoencoder.encode(clips).mode(), latents)
    torch.testing.assert_close(autoencoder.decode(latents).clamp(-1, 1), decoded, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_tiling_is_diffusers_own() -> None:
    """Tiled encoding and decoding of an image larger than a tile against diffusers' model with tiling enabled."""
    autoencoder = built("sd", tiling=True, slicing=True)
    model = theirs(autoencoder)
    model.enable_tiling()
    for tiled in (autoencoder.model, model):
        tiled.tile_sample_min_size, tiled.tile_latent_min_size = 32, 4
    images = torch.rand(1, 3, 64, 48) * 2 - 1
    latents = autoencoder.encode(images).mode()
    assert torch.equal(latents, model.encode(images).latent_dist.mode())
    assert torch.equal(autoencoder.decode(latents), model.decode(latents).sample)
    assert not torch.allclose(latents, built("sd").encode(images).mode())


@torch.no_grad()
def test_long_clips_are_encoded_in_chunks_of_frames() -> None:
    """With tiling, Hunyuan's encoder never sees more frames than a tile; shapes are as without."""
    autoencoder = built("hunyuan-video", tiling=True)
    seen: list[int] = []
    autoencoder.model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[2]))
    clips = torch.rand(1, 3, 33, 16, 16)
    latents = autoencoder.encode(clips).mode()
    assert latents.shape == (1, 16, 9, 2, 2)
    assert max(seen) <= 17
    assert len(seen) > 1


@pytest.mark.parametrize("kind", ["sd", "flux2", "wan"])
@torch.no_grad()
def test_a_folder_loads_and_a_saved_model_needs_it_no_longer(kind: str, tmp_path: Path) -> None:
    """Exported, loaded by diffusers, by kind diffusers and by the preset, trained on, saved, and loaded without it."""
    autoencoder, images = built(kind), images_for(kind)
    autoencoder.export(tmp_path / "exported")
    latents = autoencoder.encode(images).mode()
    expected = autoencoder.decode(latents)
    own = getattr(diffusers, autoencoder.config["_class_name"]).from_pretrained(
        tmp_path / "exported", low_cpu_mem_usage=False
    )
    raw = torch.nn.functional.pixel_shuffle(latents, 2) if kind == "flux2" else latents
    assert torch.equal(own.eval().decode(raw).sample, expected)
    patchify = {"patchify": True} if kind == "flux2" else {}
    for loading in ("diffusers", kind):
        spec = AutoencoderSpec.model_validate({"kind": loading, "path": str(tmp_path / "exported"), **patchify})
        spec.check_inputs()
        assert spec.info(BuildContext()) == autoencoder.info
        loaded = build_autoencoder(spec).eval()
        assert torch.equal(loaded.decode(latents), expected)
    save_autoencoder(loaded, tmp_path / "saved")
    assert str(tmp_path) not in (tmp_path / "saved" / "config.json").read_text()
    for path in (tmp_path / "exported").iterdir():
        path.unlink()
    assert torch.equal(load_autoencoder(tmp_path / "saved").eval().decode(latents), expected)


def test_flux2_without_patches_pools_its_statistics() -> None:
    """The normaliser of 32 channels against mean and deviation of the four statistics of each."""
    autoencoder = built("flux2", patchify=False)
    norm = autoencoder.model.bn
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    assert autoencoder.info == image(32)
    normalizer = autoencoder.published_normalizer()
    mean, variance = norm.running_mean.view(32, 4), norm.running_var.view(32, 4) + 1e-4
    torch.testing.assert_close(normalizer.mean, mean.mean(1))
    torch.testing.assert_close(normalizer.std, (variance.mean(1) + mean.var(1, correction=0)).sqrt())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_can_be_kept_in_half_precision(dtype: str) -> None:
    """Weights of the type that the spec names, and float32 latents and images for float32 ones."""
    autoencoder = built("sd", dtype=dtype)
    kept = torch.bfloat16 if dtype == "bfloat16" else torch.float32  # of float16, its rounding alone
    assert {parameter.dtype for parameter in autoencoder.parameters()} == {kept}
    if dtype == "float16":
        assert all(torch.equal(value, value.half().float()) for value in autoencoder.parameters())
    with torch.no_grad():
        latents = autoencoder.encode(images_for("sd")).mode()
        assert latents.dtype == autoencoder.decode(latents).dtype == torch.float32


def test_another_bottleneck_from_scratch() -> None:
    """Latent channels of a preset that is built with others; published statistics of other channels are dropped."""
    for kind in ("flux", "wan", "cosmos"):
        autoencoder = built(kind, latent_channels=4)
        with torch.no_grad():
            assert autoencoder.encode(images_for(kind)).mode().shape[1] == 4
        assert (autoencoder.published_normalizer() is None) == (kind == "wan")


def test_facts_are_known_without_torch() -> None:
    """Reading every preset's spec and its facts in a fresh process, against the modules that it has imported."""
    code = (
        "import sys; from diffusability.core.specs.components import AutoencoderSpec as A;"
        "from diffusability.core.specs.build_context import BuildContext;"
        f"[A.model_validate({{'kind': kind}}).info(BuildContext()) for kind in {list(PRESETS)!r}];"
        "print(sorted({'torch', 'diffusers', 'deepspeed'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_preset_is_an_installed_kind() -> None:
    """The kinds of this test against the installed ones."""
    assert set(PRESETS) <= set(registry.kinds("autoencoders"))


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("sd", (1, 3, 20, 16), "20x16 pixels is not divisible by the autoencoder's spatial factor 8"),
        ("sd", (1, 3, 5, 16, 16), r"AutoencoderKL encodes shape \(b, c, h, w\), got \(1, 3, 5, 16, 16\)"),
        ("wan", (1, 3, 16, 16), r"AutoencoderKLWan encodes shape \(b, c, t, h, w\)"),
        ("wan", (1, 3, 8, 16, 16), r"8 frames does not fit the autoencoder, which takes 1 \+ n \* 4: 5 or 9"),
    ],
)
def test_images_and_clips_that_do_not_fit_are_refused(kind: str, shape: tuple[int, ...], message: str) -> None:
    """The message names what was given and what was expected."""
    with pytest.raises(ValueError, match=message):
        built(kind).encode(torch.zeros(shape))


def test_normalised_latents_are_not_decoded() -> None:
    """The decoder against what a normaliser gives."""
    autoencoder = built("sd")
    normalized = autoencoder.published_normalizer().normalize(torch.zeros(1, 4, 2, 2))
    with pytest.raises(TypeError, match="decode takes raw latents, and these are normalised already"):
        autoencoder.decode(normalized)
    with pytest.raises(ValueError, match=r"decodes shape \(b, 4, h, w\), got \(1, 3, 2, 2\)"):
        autoencoder.decode(torch.zeros(1, 3, 2, 2))


def refusal(folder: Path, kind: str = "diffusers", **settings: object) -> str:
    """What checking says of a folder, before anything starts."""
    spec = AutoencoderSpec.model_validate({"kind": kind, "path": str(folder), **settings})
    with pytest.raises(ValueError, match=r"\w") as caught:
        spec.check_inputs()
    return str(caught.value)


def test_folders_that_hold_no_autoencoder_are_named(tmp_path: Path) -> None:
    """Nothing there, no configuration, a pipeline, another class, no JSON, missing, cut and torch weights."""
    assert "there is no folder" in refusal(tmp_path / "absent" / "deep")
    assert "holds no autoencoder: config.json is missing" in refusal(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    assert "holds a whole pipeline: name the part with subfolder" in refusal(tmp_path)
    config = tmp_path / "config.json"
    config.write_text("<html>")
    assert "not valid JSON" in refusal(tmp_path)
    config.write_text('{"_class_name": "UNet2DModel"}')
    assert "is of a denoiser of diffusers (UNet2DModel); expected an autoencoder" in refusal(tmp_path)
    autoencoder = built("sd")
    autoencoder.export(tmp_path)
    assert "holds an AutoencoderKL, and kind 'wan' is AutoencoderKLWan" in refusal(tmp_path, "wan")
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "diffusion_pytorch_model.safetensors' is cut short or damaged" in refusal(tmp_path)
    weights.unlink()
    assert "is incomplete: diffusion_pytorch_model.safetensors is missing" in refusal(tmp_path)


def test_what_is_on_the_hub_is_fetched_or_the_reason_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the hub's client: what it is asked for, what it gives, and that it cannot be reached."""
    autoencoder = built("sd")
    autoencoder.export(tmp_path / "vae")
    asked: dict[str, Any] = {}

    def fetch(hub_id: str, **settings: Any) -> str:
        asked.update(hub_id=hub_id, **settings)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    spec = AutoencoderSpec.model_validate({"kind": "sd", "path": "owner/name", "subfolder": "vae", "revision": "main"})
    spec.check_inputs()
    latents = torch.zeros(1, 4, 2, 2)
    assert torch.equal(build_autoencoder(spec).eval().decode(latents), autoencoder.decode(latents))
    assert (asked["hub_id"], asked["revision"]) == ("owner/name", "main")
    assert asked["allow_patterns"] == ["vae/config.json", "vae/diffusion_pytorch_model*.safetensors*"]

    def fail(hub_id: str, **settings: Any) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(CheckpointError, match=r"'owner/name' is not a local folder, and cannot .*: no route to host"):
        build_autoencoder(spec)


def test_weights_that_do_not_fit_and_pickles_are_refused(tmp_path: Path) -> None:
    """A missing tensor, tensors of another width, and a torch file that holds more than weights; a plain one loads."""
    autoencoder = built("sd")
    autoencoder.export(tmp_path)
    spec = AutoencoderSpec.model_validate({"kind": "diffusers", "path": str(tmp_path)})
    weights = autoencoder.model.state_dict()
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({name: value for name, value in weights.items() if name != "quant_conv.bias"}, tmp_path / "x.bin")
    (tmp_path / "x.bin").rename(tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"do not fit its config.json: missing keys: \['quant_conv.bias'\]"):
        build_autoencoder(spec)
    torch.save(weights, tmp_path / "diffusion_pytorch_model.bin")
    loaded = build_autoencoder(spec).eval()
    latents = torch.zeros(1, 4, 2, 2)
    assert torch.equal(loaded.decode(latents), autoencoder.decode(latents))
    torch.save({"weights": Path("x")}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match="is refused: a pickle may run code"):
        build_autoencoder(spec)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": "diffusers"}, "give exactly one of 'path' and 'config'"),
        ({"kind": "diffusers", "config": {"_class_name": "AutoencoderKl"}}, "did you mean 'AutoencoderKL'"),
        ({"kind": "flux", "width": 12}, "width is 12; expected a multiple of 8"),
        ({"kind": "flux", "width": 8, "path": "x"}, "width cannot be chosen for weights that are loaded"),
        (
            {
                "kind": "diffusers",
                "patchify": True,
                "config": {
                    "_class_name": "AutoencoderKL",
                    "block_out_channels": [8, 8],
                    "latent_channels": 4,
                    "in_channels": 3,
                },
            },
            "for AutoencoderKLFlux2",
        ),
    ],
)
def test_bad_settings_are_refused_with_a_reason(data: dict[str, object], message: str) -> None:
    """The message names the value and what was expected."""
    with pytest.raises(ValueError, match=message):
        AutoencoderSpec.model_validate(data)


def test_each_preset_has_a_file_with_its_configuration() -> None:
    """The files beside the specs against the kinds of the presets, none too many; ``published`` gives their content."""
    folder = Path(inspect.getfile(PresetSpec)).with_name("preset_configs")
    assert {path.stem for path in folder.iterdir()} >= set(PRESETS)
    assert {path.stem for path in folder.iterdir()} <= set(registry.kinds("autoencoders"))
    for kind in PRESETS:
        spec = AutoencoderSpec.model_validate({"kind": kind})
        assert isinstance(spec, PresetSpec)
        assert spec.untrained() == spec.published() == json.loads((folder / f"{kind}.json").read_text())


@pytest.mark.parametrize("kind", list(PRESETS))
def test_shapes_of_a_published_autoencoder_are_known_before_it_is_fetched(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an empty cache, at each place that the preset names, against its facts; elsewhere they are unknown."""
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *arguments, **settings: None)
    spec_class = type(AutoencoderSpec.model_validate({"kind": kind}))
    assert issubclass(spec_class, PresetSpec)
    assert spec_class.repositories
    layout = {name: value for name, value in PRESETS[kind].settings.items() if name not in ("width", "latent_channels")}
    for repository in spec_class.repositories:
        assert spec_class(path=repository, **layout).info(BuildContext()) == PRESETS[kind].info
    assert spec_class(path="owner/name").info(BuildContext()) is None
