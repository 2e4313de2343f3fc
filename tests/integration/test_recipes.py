"""Recipes at full scale, with small autoencoders, data and steps laid over them: their wiring, end to end."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.models.saved_models import save_autoencoder
from diffusability.core.planning.check import check
from diffusability.core.planning.plan import load_plan, select
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.stages.runner import run

pytestmark = pytest.mark.integration

POSTER = Path(__file__).resolve().parents[2] / "recipes" / "poster"
PHOTOS = {"kind": "sample-photos", "resolution": 32, "size": 16, "validation_size": 8}
AUTOENCODER = {"kind": "compact-kl", "latent_channels": 4, "spatial_factor": 4, "width": 16, "blocks": 1}
VIDEO_AUTOENCODER = {"kind": "compact-video-kl", "latent_channels": 4, "spatial_factor": 4, "width": 16, "blocks": 1}
ENGINE = {"precision": "fp32"}
TRAIN = {"engine": ENGINE, "batch_size": 2, "steps": 1, "preview": None}
ENCODE = {"num_samples": 4}
DIT = {**TRAIN, "data": {"num_workers": 0}, "objective": {"denoiser": {"size": "Ti/2"}}}
FEATURES = {"kind": "frechet", "features": {"kind": "efficientnet-lite0"}, "num_samples": 4, "force": True}
GENERATE = {"evaluators": [FEATURES], "sampler": {"steps": 2}, "num_preview_images": 2}


def published(folder, spec):
    """A small autoencoder in a folder, in the place of one whose weights are published."""
    save_autoencoder(build_autoencoder(AutoencoderSpec.model_validate(spec)), folder)
    return {"kind": "saved", "path": str(folder)}


def finetune(autoencoder):
    """A fine-tuning of one step, without a perceptual network."""
    return {**TRAIN, "objective": {"autoencoder": autoencoder, "perceptual": None}}


def clips(folder, seed=0):
    """Two classes of noisy clips, long enough for 17 frames."""
    av = pytest.importorskip("av")
    noise = np.random.default_rng(seed)
    for number in range(4):
        path = folder / f"class-{number % 2}" / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for _ in range(18):
                frame = av.VideoFrame.from_ndarray(noise.integers(0, 256, (32, 32, 3), dtype=np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return folder


def small(tmp_path, recipe, changes, variants):
    """Runs some variants of a recipe with changes laid over it; returns the results of each variant and stage."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({"extends": str(POSTER / f"{recipe}.yaml"), **changes}, sort_keys=False))
    plan = load_plan(path)
    stages = select(plan, variants)
    check(plan, files=stages)
    folder = RunFolder(tmp_path / "runs" / plan.name)
    with folder.locked():
        run(plan, stages, folder, Console(quiet=True), "dfz run")
    assert all(folder.is_done(stage) for name in variants for stage in plan.stages[name].values())
    return {
        variant: {
            name: set(folder.results_of(stage))
            for name, stage in plan.stages[variant].items()
            if (folder.stage(stage) / "results.json").exists()
        }
        for variant in variants
    }


def test_scale_equivariance_against_kl(tmp_path):
    """Metrics of the table's columns for FluxAE itself and with scale equivariance."""
    flux = published(tmp_path / "flux", AUTOENCODER)
    changes = {
        "data": PHOTOS,
        "engine": ENGINE,
        "stages": {
            "finetune": finetune(flux),
            "reconstruct": {"evaluators": [{"kind": "psnr", "num_samples": 4}]},
            "encode": ENCODE,
            "dit-s": DIT,
            "generate-s": GENERATE,
            "dit-l": DIT,
            "generate-l": GENERATE,
        },
        "variants.vanilla": {"stages.reconstruct.autoencoder": flux, "stages.encode.autoencoder": flux},
    }
    results = small(tmp_path, "kl-vs-se", changes, ["vanilla", "se"])
    for stages in results.values():
        assert "psnr" in stages["reconstruct"]
        assert "frechet_efficientnet_lite0" in stages["generate-s"] & stages["generate-l"]


def test_video_autoencoders(tmp_path):
    """Metrics of each variant, with extractors that need no download in the place of Inception, DINOv2 and I3D."""
    cogvideox = published(tmp_path / "cogvideox", VIDEO_AUTOENCODER)
    wan = published(tmp_path / "wan", {**VIDEO_AUTOENCODER, "width": 32})
    videos, others = str(clips(tmp_path / "videos")), str(clips(tmp_path / "others", seed=1))
    quality = [{"kind": kind, "num_samples": 4} for kind in ("psnr", "st-lpips", "kl-per-dim", "dct-spectrum")]
    changes = {
        "data": {"path": videos, "validation_path": others, "resolution": 32, "num_workers": 0},
        "engine": ENGINE,
        "stages": {
            "finetune": {
                **finetune(cogvideox),
                "engine": {"precision": "fp32", "activation_checkpointing": False},
            },
            "reconstruct": {"evaluators": [*quality, {**FEATURES, "kind": "rfid"}]},
            "encode": ENCODE,
            "dit": {**DIT, "engine": None},
            "generate": GENERATE,
        },
        "variants.wan": {"stages.reconstruct.autoencoder": wan, "stages.encode.autoencoder": wan},
        "variants.wan-se": {"stages.finetune.objective.autoencoder": wan},
    }
    results = small(tmp_path, "video-autoencoders", changes, ["wan", "wan-se"])
    for stages in results.values():
        assert {"psnr", "st_lpips", "kl_per_dim", "r_frechet_efficientnet_lite0"} <= stages["reconstruct"]
        assert "frechet_efficientnet_lite0" in stages["generate"]


def test_spectra(tmp_path):
    """An autoencoder of images and one of clips: curves of both, and of RGB."""
    videos, others = str(clips(tmp_path / "videos")), str(clips(tmp_path / "others", seed=1))
    changes = {
        "data": PHOTOS,
        "engine": ENGINE,
        "stages.spectra.autoencoder": published(tmp_path / "flux", AUTOENCODER),
        "variants.wan": {
            "stages.spectra.autoencoder": published(tmp_path / "wan", VIDEO_AUTOENCODER),
            "data": {"path": videos, "validation_path": others, "resolution": 32, "num_workers": 0},
        },
    }
    for stages in small(tmp_path, "spectra", changes, ["flux", "wan"]).values():
        assert {"latent_spectrum_curve", "rgb_pooled_spectrum_curve", "rgb_spectrum_curve"} <= stages["spectra"]


def test_chopped_frequencies(tmp_path):
    """Both curves of each variant, and the row of pictures."""
    flux = published(tmp_path / "flux", AUTOENCODER)
    changes = {
        "data": PHOTOS,
        "engine": ENGINE,
        "stages": {"finetune": finetune(flux), "chop-off": {"evaluators": [{"kind": "chop-off", "num_samples": 2}]}},
        "variants.vanilla": {"stages.chop-off.autoencoder": flux},
    }
    results = small(tmp_path, "chop-off", changes, ["vanilla", "control", "se"])
    assert all({"chop_off_curve", "rgb_chop_off_curve"} <= stages["chop-off"] for stages in results.values())
    figures = {path.name for path in tmp_path.glob("runs/chop-off/stages/chop-off-*/figures/*.png")}
    assert {"chop-off.png", "chop-off-pictures.png"} <= figures


def test_channel_sizes(tmp_path):
    """FluxAE's architecture at a width of 8: two bottlenecks, measured."""
    changes = {
        "data": PHOTOS,
        "engine": ENGINE,
        "stages": {
            "autoencoder": {**TRAIN, "objective": {"autoencoder": {"width": 8}, "perceptual": None}},
            "measure": {
                "evaluators": [{"kind": kind, "num_samples": 2} for kind in ("psnr", "dct-spectrum", "chop-off")]
            },
        },
    }
    for stages in small(tmp_path, "channel-sizes", changes, ["c4", "c64"]).values():
        assert {"psnr", "latent_spectrum_curve", "chop_off_curve"} <= stages["measure"]


def test_convergence_and_error_accumulation(tmp_path):
    """Metrics while the DiT trains; then the second recipe goes on in the first one's run and trains nothing again."""
    flux = published(tmp_path / "flux", AUTOENCODER)
    evaluate = {"every": 1, "evaluators": [FEATURES], "sampler": {"steps": 2}}
    stages = {"finetune": finetune(flux), "encode": ENCODE, "dit": {**DIT, "evaluate": evaluate}}
    changes = {
        "data": PHOTOS,
        "engine": ENGINE,
        "stages": stages,
        "variants.vanilla": {"stages.encode.autoencoder": flux},
    }
    small(tmp_path, "convergence", changes, ["vanilla", "se"])
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/convergence/stages/*/done.json")}
    assert {path.parent.name.rsplit("-", 1)[0] for path in finished} == {"finetune", "encode", "dit"}
    for path in tmp_path.glob("runs/convergence/stages/dit-*/metrics.jsonl"):
        assert "frechet_efficientnet_lite0" in path.read_text()
    story = [
        {"kind": "denoising-spectrum", "num_samples": 2},
        {"kind": "error-accumulation", "steps": 2, "num_samples": 2},
    ]
    stages["frequencies"] = {"evaluators": story, "num_preview_images": 2}
    for results in small(tmp_path, "error-accumulation", changes, ["vanilla", "se"]).values():
        assert {"denoising_error", "cumulative_error"} <= results["frequencies"]
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())
