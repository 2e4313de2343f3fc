"""The loops of other libraries in ``examples/``, run as their docstrings say; skipped where the library is missing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = pytest.mark.integration


#: What a stage that ran in this process, or a launcher, has left in the environment.
OF_LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def run(name, *arguments):
    inherited = {name: value for name, value in os.environ.items() if name not in OF_LAUNCHERS}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**inherited, "JAXTYPING_DISABLE": "1", "ACCELERATE_USE_CPU": "true"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_accelerate_fine_tunes_what_is_scored():
    """The reconstruction improves within 30 steps from random weights, and the scorecard sees it."""
    pytest.importorskip("accelerate")
    printed = run("accelerate_loop.py", "--steps", "30")
    before, after = map(float, re.search(r"psnr: (\S+) before, (\S+) after", printed).groups())
    assert after > before + 2
    assert "high_frequency_share" in printed


def test_lightning_trains_a_module_of_its_own():
    """A scorecard every quarter of the steps, the last one better than the first, and the table at the end."""
    pytest.importorskip("lightning")
    printed = run("lightning_loop.py", "--steps", "40")
    quality = [float(number) for number in re.findall(r"step \d+: PSNR (\S+) dB", printed)]
    assert len(quality) == 4
    assert quality[-1] > quality[0]
    assert "diffusability scorecard of Autoencoder" in printed
