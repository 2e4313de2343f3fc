"""The tracker trackio, on its database on this machine; read back from its tables."""

import json
import sqlite3
import subprocess
import sys

import pytest

pytest.importorskip("trackio")

PROGRAM = """
import sys
from pathlib import Path
from PIL import Image
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.trackers.specs import TrackioSpec

folder = Path(sys.argv[1])
Image.new("RGB", (6, 4)).save(folder / "grid.png")
for name, first in (("a", 1), ("a", 3), ("b", 1)):
    (folder / name).mkdir(exist_ok=True)
    tracker = TrackioSpec(project="p").build(BuildContext())
    tracker.start("pretrain", folder / name, {"seed": 0})
    for step in (first, first + 1):
        tracker.log(step, {"step": step, "loss": step / 2, "eval/psnr": 2.0 * step})
    tracker.log_image(first, "samples", folder / "grid.png")
    tracker.finish()
"""


def test_a_stage_keeps_one_run_with_its_metrics_and_images(tmp_path):
    """Two starts in one folder, as when a stage resumes, and one in another; nothing is printed, no network is used."""
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1", "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    with sqlite3.connect(tmp_path / "trackio/p.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics order by id").fetchall()
    database.close()
    names = {name: [(step, json.loads(text)) for run, step, text in rows if run == name] for name, _, _ in rows}
    expected = {f"pretrain-{(tmp_path / name / 'trackio-run-id.txt').read_text().strip()}" for name in "ab"}
    assert set(names) == expected
    assert len(expected) == 2
    first = names[f"pretrain-{(tmp_path / 'a/trackio-run-id.txt').read_text().strip()}"]
    losses = [(step, metrics["loss"]) for step, metrics in first if "loss" in metrics]
    assert losses == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]
    assert [step for step, metrics in first if "samples" in metrics] == [1, 3]
    assert len(list((tmp_path / "trackio/media").rglob("*.png"))) == 3
