"""Whole reports, made from run folders that are written here as a run leaves them."""

import base64
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image

from diffusability.core.errors import SpecError
from diffusability.core.report import build_report

NUM_FREQUENCIES = 64
SHARES = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0]
STEPS = 400
PLOT = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><path d="M0 4L4 0" stroke="black"/></svg>'


def scalar(value: Any, direction: bool | None, unit: str = "", **settings: Any) -> dict[str, Any]:
    """A scalar metric as ``results.json`` holds it."""
    return {
        "value": value,
        "unit": unit,
        "higher_is_better": direction,
        "num_samples": settings.pop("num_samples", 512),
        "spec": settings,
    }


def curve(
    x: Sequence[float], y: Sequence[float], labels: tuple[str, str], y_std: Sequence[float] | None = None
) -> dict[str, Any]:
    """A curve as ``results.json`` holds it."""
    content = {
        "x": [float(value) for value in x],
        "y": [float(value) for value in y],
        "x_label": labels[0],
        "y_label": labels[1],
        "y_std": y_std,
    }
    return {"curve": content, "unit": "", "higher_is_better": None, "num_samples": 512, "spec": {"block_size": 8}}


def autoencoder_metrics(gain: float) -> dict[str, Any]:
    """What an autoencoder of better (higher ``gain``) diffusability could measure."""
    x = np.arange(NUM_FREQUENCIES)
    rgb = -5.2 * (1 - np.exp(-x / 18))
    latent = -(2.2 + 1.6 * gain) * (1 - np.exp(-x / 15))
    spectrum = ("zigzag index of the DCT frequency", "log amplitude relative to DC")
    chop = ("share of DCT coefficients kept", "PSNR (dB)")
    kept = np.log2(SHARES) / 5 + 1
    return {
        "psnr": scalar(30.20 + 0.17 * gain, True, "dB"),
        "ssim": scalar(0.9123 + 0.001 * gain, True),
        "kl_per_dim": scalar(1.4531 - 0.03 * gain, None, "nats"),
        "high_frequency_share": scalar(0.2104 - 0.06 * gain, False),
        "rgb_high_frequency_share": scalar(0.0871, None),
        "spectral_gap": scalar(1.62 - 0.9 * gain, None),
        "chop_off_area": scalar(21.4 + 2.2 * gain, True, "dB"),
        "rgb_chop_off_area": scalar(27.9, None, "dB"),
        "latent_spectrum_curve": curve(x, latent.tolist(), spectrum, (0.1 + 0.004 * x).tolist()),
        "rgb_pooled_spectrum_curve": curve(x, rgb.tolist(), spectrum, [0.05] * NUM_FREQUENCIES),
        "rgb_spectrum_curve": curve(x, (1.25 * rgb).tolist(), spectrum, [0.05] * NUM_FREQUENCIES),
        "chop_off_curve": curve(SHARES, (12 + 3 * gain + (18 - 3 * gain) * kept).tolist(), chop),
        "rgb_chop_off_curve": curve(SHARES, [*(19 + 16 * kept[:-1]), float("inf")], chop),
        "radial_energy_curve": curve([0, 1, 2], [3.0 - gain, 2.0, 1.0], ("radius", "energy")),
    }


def generation_metrics(gain: float) -> dict[str, Any]:
    """What samples of a denoiser on such latents could measure."""
    return {
        "fdd": scalar(415.87 - 46.72 * gain, False, num_samples=1024),
        "sliced_wasserstein": scalar(0.0412 - 0.006 * gain, False, num_samples=1024),
    }


def write_log(path: Path, terms: dict[str, float], offset: int) -> None:
    """A training log in which every term falls, with noise."""
    generator = np.random.default_rng(offset)
    lines = []
    for step in range(2, STEPS + 1, 2):
        values = {
            name: start * (0.08 + np.exp(-step / 60)) * generator.lognormal(0, 0.12) for name, start in terms.items()
        }
        lines.append(
            {
                "step": step,
                "samples": step * 32,
                "loss": sum(values.values()),
                **values,
                "lr": 1e-4 * min(1, step / 50),
                "grad_norm": generator.lognormal(0, 0.3),
                "samples_per_s": 52 + generator.normal(),
                "step_time_s": 0.6,
            }
        )
        if step % 100 == 0:
            lines.append({"step": step, "samples": step * 32, "eval/psnr": 20 + step / 40})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_picture(path: Path, color: Sequence[int], columns: int = 4, rows: int = 2, side: int = 48) -> None:
    """A grid of blobs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    v, u = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    tiles = [
        np.exp(-((u - 0.3 * np.cos(k)) ** 2 + (v - 0.3 * np.sin(2 * k)) ** 2) * 3)[..., None] * np.array(color) + 20
        for k in range(rows * columns)
    ]
    lines = [np.concatenate(tiles[row * columns : (row + 1) * columns], axis=1) for row in range(rows)]
    Image.fromarray(np.concatenate(lines).clip(0, 255).astype(np.uint8)).save(path)


def write_stage(
    root: Path, name: str, kind: str, variant: str, metrics: dict[str, Any], log: dict[str, float]
) -> dict[str, Any]:
    """The folder of a finished stage, and what ``run.json`` says of it."""
    digest = f"{abs(hash((name, variant))) % 16**8:08x}"
    directory = root / "stages" / f"{name}-{digest}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "resolved.yaml").write_text(yaml.safe_dump({"name": name, "stage": {"kind": kind, "steps": STEPS}}))
    color = [[220, 150, 90], [90, 200, 160], [150, 130, 230]][len(variant) % 3]
    if metrics:
        (directory / "results.json").write_text(json.dumps(metrics))
    if log:
        write_log(directory / "metrics.jsonl", log, len(variant))
        write_picture(directory / "samples" / "step-000200.png", [60, 60, 60])
        write_picture(directory / "samples" / f"step-000{STEPS}.png", color)
    if name == "generation":
        write_picture(directory / "samples" / "samples.png", color, columns=8, rows=4)
    if "chop_off_curve" in metrics:
        write_picture(directory / "figures" / "chop-off-pictures.png", color, columns=6, rows=2)
        (directory / "figures" / "chop-off.svg").write_text(PLOT)
    return {
        "directory": f"stages/{directory.name}",
        "kind": kind,
        "status": "done",
        "seconds": 61.5,
        "shared_with": [],
    }


def write_run(root: Path, gains: dict[str, float]) -> Path:
    """A finished run in which all variants share ``pretrain`` and differ from ``finetune`` on."""
    root.mkdir(parents=True)
    terms = {"reconstruction": 0.6, "kl": 0.02}
    pretrain = write_stage(root, "pretrain", "train", "", {}, terms)
    variants, results = {}, {}
    for variant, gain in gains.items():
        measured = {"spectrum": autoencoder_metrics(gain), "generation": generation_metrics(gain)}
        finetune = {**terms, "scale-equivariance": 0.2} if gain else terms
        variants[variant] = {
            "pretrain": {**pretrain, "shared_with": [other for other in gains if other != variant]},
            "finetune": write_stage(root, "finetune", "train", variant, {}, finetune),
            "spectrum": write_stage(root, "spectrum", "evaluate", variant, measured["spectrum"], {}),
            "encode": write_stage(root, "encode", "encode", variant, {}, {}),
            "dit": write_stage(root, "dit", "train", variant, {}, {"velocity": 1.4}),
            "generation": write_stage(root, "generation", "evaluate", variant, measured["generation"], {}),
        }
        results[variant] = measured
    record = {
        "name": root.name,
        "created": "2025-07-14T10:32:05+00:00",
        "command": f"dfz run {root.name}.yaml",
        "versions": {"diffusability-core": "0.1.0", "torch": "2.14.1"},
        "variants": variants,
    }
    (root / "run.json").write_text(json.dumps(record))
    (root / "results.json").write_text(json.dumps({"name": root.name, "variants": results}))
    (root / "spec.yaml").write_text(f"name: {root.name}\nseed: 0  # <fixed>\n")
    return root
