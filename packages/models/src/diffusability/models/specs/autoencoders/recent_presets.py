"""Presets of autoencoders published since 2025. Free of torch.

The configurations are in ``preset_configs``: those of ``qwen-image``, ``hunyuan-video-1.5`` and ``ltx2`` are the
defaults of diffusers' classes, that of ``hunyuan-image`` is in diffusers' conversion script, that of ``wan22`` has the
widths and statistics of the publisher's code, and that of ``vavae`` and ``e2e-vae`` is LightningDiT's. Their latents
were published with statistics of their own, which a folder with a config.json may have and a single file has not.
"""

from typing import ClassVar, Literal

from diffusability.models.specs.autoencoders.presets import PresetSpec


class Wan22Spec(PresetSpec):
    """The autoencoder of Wan 2.2 (TI2V 5B): clips of 1 + 4n frames, f16 t4, 48 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"Wan-AI/Wan2.2-TI2V-5B-Diffusers"})

    kind: Literal["wan22"] = "wan22"


class QwenImageSpec(PresetSpec):
    """The autoencoder of Qwen-Image: clips of 1 + 4n frames, f8 t4, 16 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"Qwen/Qwen-Image"})

    kind: Literal["qwen-image"] = "qwen-image"


class HunyuanVideo15Spec(PresetSpec):
    """The autoencoder of HunyuanVideo 1.5: clips of 1 + 4n frames, f16 t4, 32 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v"})

    kind: Literal["hunyuan-video-1.5"] = "hunyuan-video-1.5"


class HunyuanImageSpec(PresetSpec):
    """The autoencoder of HunyuanImage 2.1: images, f32, 64 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"hunyuanvideo-community/HunyuanImage-2.1-Diffusers"})

    kind: Literal["hunyuan-image"] = "hunyuan-image"


class LTX2Spec(PresetSpec):
    """The autoencoder of LTX-2: clips of 1 + 8n frames, f32 t8, 128 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"Lightricks/LTX-2"})

    kind: Literal["ltx2"] = "ltx2"


class VAVAESpec(PresetSpec):
    """VA-VAE, the autoencoder of LightningDiT: images, f16, 32 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"REPA-E/vavae-hf"})

    kind: Literal["vavae"] = "vavae"


class E2EVAESpec(PresetSpec):
    """The E2E-VAE of REPA-E, tuned from VA-VAE: images, f16, 32 channels."""

    repositories: ClassVar[frozenset[str]] = frozenset({"REPA-E/e2e-vavae-hf"})

    kind: Literal["e2e-vae"] = "e2e-vae"
