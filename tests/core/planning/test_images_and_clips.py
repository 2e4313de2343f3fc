"""Image autoencoders on clips, and what decodes no images, are refused before anything starts."""

import pytest
from complaints import complaints
from quickstart_run import dfz_here
from tiny_runs import write_spec
from video_clips import write_clip

from diffusability.core.errors import DiffusabilityError
from diffusability.core.planning.plan import load_plan

COMPACT = {"kind": "compact-kl", "width": 16, "blocks": 1}
REFUSED = "the autoencoder takes images (c, h, w), got clips of shape (3, 5, 32, 32)"
ADVICE = "use an autoencoder of clips, or a dataset of images, such as a folder of frames"


@pytest.fixture
def videos(tmp_path):
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / "videos" / name, count=20)
    return tmp_path / "videos"


@pytest.mark.parametrize(
    "stage",
    [
        {"kind": "train", "objective": {"kind": "reconstruction", "autoencoder": COMPACT}, "steps": 1},
        {"kind": "encode", "autoencoder": COMPACT},
        {"kind": "evaluate", "autoencoder": COMPACT, "evaluators": [{"kind": "psnr"}]},
    ],
    ids=lambda stage: stage["kind"],
)
def test_every_stage_refuses_clips(videos, tmp_path, stage):
    """The place in the spec, and what to use instead; a clip of one frame is a clip, too."""
    data = {"kind": "video-folder", "path": str(videos), "frames": 5, "resolution": 32, "validation_share": 0.5}
    content = {"name": "clips", "data": data, "stages": {"only": stage}}
    complaint = complaints(load_plan(write_spec(tmp_path, content)))
    assert REFUSED in complaint
    assert ADVICE in complaint
    assert "stages.only" in complaint
    content["data"] = data | {"frames": 1}
    assert "got clips of shape (3, 1, 32, 32)" in complaints(load_plan(write_spec(tmp_path, content)))


def test_score_refuses_clips(videos, tmp_path):
    """On the command line, before a run begins."""
    arguments = ("score", "compact-kl:width=16,blocks=1", "--data", videos, "--resolution", "32", "--frames", "5")
    with pytest.raises(DiffusabilityError) as refused:
        dfz_here(*arguments, "--runs", tmp_path / "runs")
    assert REFUSED in str(refused.value)
    assert not list((tmp_path / "runs").rglob("results.json"))


def test_a_decode_that_gives_something_else_is_named_by_checking(tmp_path):
    """A file's module whose decode returns a dictionary of other things: the type and its keys."""
    source = tmp_path / "mine.py"
    source.write_text(
        "import torch\n"
        "class Mine(torch.nn.Module):\n"
        "    def encode(self, images):\n"
        "        return images[..., ::4, ::4]\n"
        "    def decode(self, latents):\n"
        "        return {'frames': latents}\n"
    )
    stage = {
        "kind": "evaluate",
        "autoencoder": {"kind": "python", "target": f"{source}:Mine"},
        "evaluators": [{"kind": "psnr"}],
    }
    content = {"name": "mine", "data": {"kind": "sample-photos", "resolution": 64}, "stages": {"measure": stage}}
    complaint = complaints(load_plan(write_spec(tmp_path, content)))
    assert "decode returned a dict with the keys 'frames'" in complaint
