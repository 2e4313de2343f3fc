"""DINOv2, CLIP, I3D and VideoMAE from files, on small models of random weights that the tests write."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import to_pil_image, to_tensor
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    VideoMAEConfig,
    VideoMAEModel,
)

from diffusability.core.contracts.evaluator import EvaluationBatch
from diffusability.core.errors import CheckpointError, DataError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import FeaturesSpec
from diffusability.eval.specs.features import clip as clip_spec
from diffusability.eval.specs.features.clip import CLIPSpec
from diffusability.eval.specs.features.dinov2 import DINOv2Spec
from diffusability.eval.specs.features.i3d import I3DSpec
from diffusability.eval.specs.features.videomae import VideoMAESpec
from diffusability.eval.specs.generation import FrechetSpec

Photographs = Callable[[int, int], Tensor]


@pytest.fixture(scope="module")
def dinov2_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of ViT-S/14 as the authors publish it: trained at 518 pixels, with a mask token."""
    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0)
    tensors = {name: value + 0.02 * torch.randn(value.shape) for name, value in network.state_dict().items()}
    path = tmp_path_factory.mktemp("dinov2") / "dinov2_vits14_pretrain.pth"
    torch.save(tensors | {"mask_token": torch.zeros(1, 384)}, path)
    return path


def from_a_file(images: Tensor) -> Tensor:
    """Images in [-1, 1] whose pixels were rounded to 256 values."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def plain_dinov2(tensors: dict[str, Tensor], images: Tensor) -> Tensor:
    """DINOv2's class token by matrix products, after the paper and its configuration: pre-norm blocks with layer scale,
    six heads, positions interpolated with an offset of 0.1."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (384,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    pictures = [to_pil_image(((image + 1) * 127.5).round().to(torch.uint8)) for image in images]
    pixels = torch.stack([to_tensor(picture.resize((224, 224), Image.Resampling.BICUBIC)) for picture in pictures])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    patches = (
        ((pixels - mean) / std).unfold(2, 14, 14).unfold(3, 14, 14).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    )
    tokens = patches @ tensors["patch_embed.proj.weight"].flatten(1).T + tensors["patch_embed.proj.bias"]
    places = tensors["pos_embed"][:, 1:].view(1, 37, 37, 384).permute(0, 3, 1, 2)
    places = F.interpolate(places, scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic").flatten(2).transpose(1, 2)
    first = (tensors["cls_token"] + tensors["pos_embed"][:, :1]).expand(len(images), -1, -1)
    x = torch.cat([first, tokens + places], 1)
    for block in range(12):
        name = f"blocks.{block}"
        heads = linear(norm(x, f"{name}.norm1"), f"{name}.attn.qkv").view(len(x), -1, 3, 6, 64).permute(2, 0, 3, 1, 4)
        weights = (heads[0] @ heads[1].transpose(-1, -2) / math.sqrt(64)).softmax(-1)
        mixed = (weights @ heads[2]).transpose(1, 2).flatten(2)
        x = x + tensors[f"{name}.ls1.gamma"] * linear(mixed, f"{name}.attn.proj")
        hidden = F.gelu(linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
        x = x + tensors[f"{name}.ls2.gamma"] * linear(hidden, f"{name}.mlp.fc2")
    return norm(x, "norm")[:, 0]


def test_dinov2_is_the_papers_transformer(dinov2_weights: Path, photographs: Photographs) -> None:
    """A published file through timm's network against plain matrix products; colour and grey, the map's places."""
    images = photographs(2, 64)
    extractor = DINOv2Spec(model="vits14", weights=dinov2_weights).build(BuildContext())
    features = extractor(images)
    expected = plain_dinov2(torch.load(dinov2_weights, weights_only=True), images)
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3)
    assert (expected[0] - expected[1]).abs().max() > 0.1
    assert extractor.feature_map(images).shape == (2, 384, 16, 16)
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(extractor(grey), extractor(grey.expand(-1, 3, -1, -1)))
    digest = hashlib.sha256(dinov2_weights.read_bytes()).hexdigest()[:16]
    resize = "bicubic, antialias, 224 px, of bytes to bytes as Pillow"
    assert extractor.settings() == {"model": "vits14", "weights": digest, "resize": resize}


@pytest.mark.parametrize("side", [64, 300])
def test_dinov2_sees_the_pixels_that_dgm_eval_gives_it(
    side: int, photographs: Photographs, dinov2_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stein et al.'s code: a picture of bytes, resized by Pillow through torchvision, to a tensor. Reconstructions lie
    between bytes. Pillow's weights have 22 bits, so that a value half way between bytes may go the other way: in few
    pixels, by a grey level, or two where that happens in both passes."""
    images = (photographs(2, 64) if side == 64 else F.interpolate(photographs(2, 100), (300, 300))) * 0.997
    theirs = transforms.Compose([transforms.Resize((224, 224), InterpolationMode.BICUBIC), transforms.ToTensor()])
    expected = torch.stack([theirs(to_pil_image(((image + 1) * 127.5).round().to(torch.uint8))) for image in images])
    extractor: Any = DINOv2Spec(model="vits14", weights=dinov2_weights).build(BuildContext())
    seen: list[Tensor] = []

    def remember(pixels: Tensor) -> Tensor:
        seen.append(pixels)
        return torch.zeros(len(pixels), 257, 384)

    monkeypatch.setattr(extractor.network, "forward_features", remember)
    extractor(images)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    levels = (seen[0] * std + mean - expected).abs() * 255
    assert levels.max() < 2.01
    assert (levels > 0.01).double().mean() < 0.01


def test_dinov2s_distance_is_called_fdd_for_its_large_model_only(dinov2_weights: Path, tmp_path: Path) -> None:
    """Names; weights of another size and of another network."""
    assert FrechetSpec(features=DINOv2Spec()).metric() == "fdd"
    assert FrechetSpec(features=DINOv2Spec(model="vits14")).metric() == "frechet_dinov2_vits14"
    with pytest.raises(CheckpointError, match="are not of this network"):
        DINOv2Spec(model="vitb14", weights=dinov2_weights).build(BuildContext())
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="there is no 'pos_embed'"):
        DINOv2Spec(model="vits14", weights=tmp_path / "other.pth").build(BuildContext())


def test_weights_are_found_in_the_usual_caches(
    dinov2_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.hub's, then Hugging Face's with timm's name."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    spec = DINOv2Spec(model="vits14")
    message = r"'dinov2_vits14_pretrain\.pth' \(84 MiB\).* does not exist; download it from https://dl\.fbaipublicfiles"
    with pytest.raises(ValueError, match=message):
        spec.check_inputs()
    snapshot = tmp_path / "hf/hub/models--timm--vit_small_patch14_dinov2.lvd142m/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"")
    assert spec.weights_file() == snapshot / "model.safetensors"
    cache = tmp_path / "torch/hub/checkpoints"
    cache.mkdir(parents=True)
    (cache / "dinov2_vits14_pretrain.pth").write_bytes(b"")
    assert spec.weights_file() == cache / "dinov2_vits14_pretrain.pth"
    for other in (CLIPSpec(), VideoMAESpec()):
        with pytest.raises(
            ValueError, match=r"needs 'config\.json' and 'model\.safetensors' \(\d+ MiB\) of .*hf download"
        ):
            other.check_inputs()
    with pytest.raises(ValueError, match=r"'i3d_torchscript\.pt' \(49 MiB\)"):
        I3DSpec().check_inputs()


def test_clip_gives_transformers_embeddings_of_length_one(
    tmp_path: Path, photographs: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small model saved by transformers and read back: its embeddings on pixels prepared by plain torch."""
    monkeypatch.setitem(clip_spec.MODELS, "vit-base-patch32", (24, 32, 1))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPVisionConfig(image_size=32, patch_size=8, projection_dim=24, **sizes)
    theirs = CLIPVisionModelWithProjection(config).eval()
    theirs.save_pretrained(tmp_path / "clip")
    spec = CLIPSpec(model="vit-base-patch32", weights=tmp_path / "clip")
    spec.check_inputs()
    extractor = spec.build(BuildContext())
    images = photographs(2, 48)
    pixels = F.interpolate(from_a_file(images), (32, 32), mode="bicubic", antialias=True) / 2 + 0.5
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    with torch.no_grad():
        expected = theirs(pixel_values=(pixels - mean) / std).image_embeds
    torch.testing.assert_close(extractor(images), expected / expected.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)
    monkeypatch.setitem(clip_spec.MODELS, "vit-base-patch32", (512, 224, 1))
    with pytest.raises(CheckpointError, match=r"embeddings of 24 numbers and images of 32 pixels; .* has 512 and 224"):
        spec.build(BuildContext())


class SmallI3D(nn.Module):
    """A network with the interface of the published script."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 400)

    def forward(self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> Tensor:
        assert not rescale
        assert not resize
        assert return_features
        assert x.shape[-1] == 224
        return self.linear(x.mean((2, 3, 4)) + x[:, :, -1].mean((2, 3)))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_i3d_runs_the_script_on_clips(
    tmp_path: Path, photographs: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script with I3D's interface: its features of resized clips; short clips, images and other files are refused."""
    # After a ZeRO-3 stage in this process DeepSpeed's own linear stays in torch's place, which cannot be scripted.
    monkeypatch.setattr(torch.nn.functional, "linear", torch._C._nn.linear)
    torch.manual_seed(0)
    theirs = SmallI3D()
    torch.jit.script(theirs).save(tmp_path / "i3d.pt")
    spec = I3DSpec(weights=tmp_path / "i3d.pt")
    spec.check_inputs()
    extractor = spec.build(BuildContext())
    clips = photographs(20, 48).unflatten(0, (2, 10)).transpose(1, 2)
    frames = F.interpolate(from_a_file(clips.transpose(1, 2).flatten(0, 1)), (224, 224), mode="bilinear")
    resized = frames.unflatten(0, (2, 10)).transpose(1, 2)
    with torch.no_grad():
        expected = theirs(resized, rescale=False, resize=False, return_features=True)
    torch.testing.assert_close(extractor(clips), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="at least 10 frames, got 9"):
        extractor(clips[:, :, :9])
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text\.pt' is not a TorchScript file"):
        I3DSpec(weights=tmp_path / "text.pt").build(BuildContext())
    fvd = FrechetSpec(features=spec, force=True)
    assert fvd.metric() == "fvd"
    evaluator = fvd.build(BuildContext())
    images = photographs(2, 48)
    with pytest.raises(DataError, match="features 'i3d' are of clips, got images"):
        evaluator.update(EvaluationBatch(indices=[0, 1], images=images, generated=images))


def test_videomae_gives_the_mean_of_transformers_tokens(tmp_path: Path, photographs: Photographs) -> None:
    """A small model saved by transformers and read back, on 16 frames of 20 at even distances."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 32, "num_hidden_layers": 1}
    config = VideoMAEConfig(image_size=32, num_frames=16, num_attention_heads=4, **sizes)
    theirs = VideoMAEModel(config).eval()
    theirs.save_pretrained(tmp_path / "videomae")
    spec = VideoMAESpec(model="base", weights=tmp_path / "videomae")
    extractor = spec.build(BuildContext())
    assert FrechetSpec(features=spec).metric() == "frechet_videomae_base"
    clips = photographs(40, 32).unflatten(0, (2, 20)).transpose(1, 2)
    places = [round(k * 19 / 15) for k in range(16)]
    mean, std = (torch.tensor(v).view(3, 1, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = ((from_a_file(clips[:, :, places]) / 2 + 0.5) - mean) / std
    with torch.no_grad():
        expected = theirs(pixel_values=pixels.transpose(1, 2)).last_hidden_state.mean(1)
    torch.testing.assert_close(extractor(clips), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="at least 16 frames, got 12"):
        extractor(clips[:, :, :12])
    with pytest.raises(CheckpointError, match="has 768 features; 'videomae_large' has 1024"):
        VideoMAESpec(model="large", weights=tmp_path / "videomae").build(BuildContext())


def test_a_folder_without_all_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A saved language model's folder for CLIP's, and a broken configuration."""
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.json").write_text("{")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"broken' cannot be read"):
        CLIPSpec(weights=folder).build(BuildContext())
    with pytest.raises(ValueError, match="absent' does not hold them"):
        CLIPSpec(weights=tmp_path / "absent").check_inputs()


def test_kinds_are_found_by_name() -> None:
    """All extractors through the plugin door; an unknown model is an error."""
    for kind in ("clip", "dinov2", "efficientnet-lite0", "i3d", "inception", "videomae"):
        assert FeaturesSpec.model_validate({"kind": kind}).kind == kind
    with pytest.raises(ValidationError):
        FeaturesSpec.model_validate({"kind": "dinov2", "model": "vitg14"})
