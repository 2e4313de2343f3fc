"""Training losses of variants on latents of different autoencoders are marked as not comparable."""

import json
from pathlib import Path

import pytest
import yaml

from diffusability.core.report.comparison import LOSSES_OF_OTHER_LATENTS, compare
from diffusability.core.run.folder_reader import read_run


def write_run(root: Path, digests: dict[str, str], kind: str = "latents") -> Path:
    """A run whose variants train a denoiser on latents of the encode stage with this digest."""
    variants = {}
    for variant, digest in digests.items():
        folder = root / "stages" / f"dit-{variant}"
        folder.mkdir(parents=True)
        stage = {"kind": "train", "steps": 4, "data": {"kind": kind, "stage": "encode"}}
        resolved = {"name": "dit", "inputs": {"encode": digest}, "stage": stage}
        (folder / "resolved.yaml").write_text(yaml.safe_dump(resolved))
        variants[variant] = {"dit": {"kind": "train", "status": "done", "directory": f"stages/dit-{variant}"}}
    (root / "run.json").write_text(json.dumps({"name": "run", "variants": variants}))
    return root


@pytest.mark.parametrize(
    ("digests", "kind", "marked"),
    [
        ({"vanilla": "aa", "se": "bb"}, "latents", True),
        ({"vanilla": "aa", "se": "aa"}, "latents", False),
        ({"vanilla": "aa", "se": "bb"}, "image-folder", False),
        ({"vanilla": "aa"}, "latents", False),
    ],
)
def test_losses_on_different_latents_are_marked(
    digests: dict[str, str], kind: str, marked: bool, tmp_path: Path
) -> None:
    """Of other encodings; not of one and the same, of images, or of a single variant."""
    remarks = compare([read_run(write_run(tmp_path, digests, kind))]).remarks
    expected = f"dit: {LOSSES_OF_OTHER_LATENTS} ({', '.join(digests)})"
    assert remarks == ([expected] if marked else [])
