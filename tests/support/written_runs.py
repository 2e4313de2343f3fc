"""Run folders as a run leaves them, written without running anything, and pages taken apart."""

import json
import zlib
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

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
        "spread": 1e-5,
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
    x = np.arange(float(NUM_FREQUENCIES))
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
        "latent_spectrum_curve": curve(x.tolist(), latent.tolist(), spectrum, (0.1 + 0.004 * x).tolist()),
        "rgb_pooled_spectrum_curve": curve(x.tolist(), rgb.tolist(), spectrum, [0.05] * NUM_FREQUENCIES),
        "rgb_spectrum_curve": curve(x.tolist(), (1.25 * rgb).tolist(), spectrum, [0.05] * NUM_FREQUENCIES),
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
            lines.append({"step": step, "samples": step * 32, "eval/psnr": 20 + step / 40 + offset / 10})
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
    digest = f"{zlib.crc32(f'{name} {variant}'.encode()):08x}"
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


STAGES = ("pretrain", "finetune", "spectrum", "encode", "dit", "generation")


def write_run(root: Path, gains: dict[str, float], stages: Sequence[str] = STAGES) -> Path:
    """A finished run in which all variants share ``pretrain`` and differ from ``finetune`` on."""
    root.mkdir(parents=True)
    terms = {"reconstruction": 0.6, "kl": 0.02}
    variants, results = {}, {}
    for variant, gain in gains.items():
        measured = {"spectrum": autoencoder_metrics(gain), "generation": generation_metrics(gain)}
        plan: dict[str, tuple[str, str, dict[str, float]]] = {
            "pretrain": ("train", "", terms),
            "finetune": ("train", variant, {**terms, "scale-equivariance": 0.2} if gain else terms),
            "spectrum": ("evaluate", variant, {}),
            "encode": ("encode", variant, {}),
            "dit": ("train", variant, {"velocity": 1.4}),
            "generation": ("evaluate", variant, {}),
        }
        variants[variant] = {
            name: write_stage(root, name, kind, owner, measured.get(name, {}), log)
            for name, (kind, owner, log) in plan.items()
            if name in stages
        }
        results[variant] = {name: metrics for name, metrics in measured.items() if name in stages}
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


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Changes a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


class Page(HTMLParser):
    """An HTML page taken apart by the standard library's parser."""

    VOID = ("meta", "img", "br", "line", "link", "hr", "input")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.tables: list[list[list[tuple[str, str]]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(("", dict(attrs).get("class") or ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if {"style", "script"} & set(self.open):
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            text, kind = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (" ".join([*text.split(), *data.split()]), kind)

    def values(self, attribute: str) -> list[str]:
        """All values of an attribute."""
        return [attrs[attribute] or "" for _, attrs in self.tags if attribute in attrs]

    def column(self, heading: str) -> dict[str, tuple[str, str]]:
        """Text and class of each cell of a result column, by variant; a heading starts with that text."""
        for table in self.tables:
            headings = [text for text, _ in table[1]] if len(table) > 1 else []
            for place, text in enumerate(headings):
                if text.startswith(heading):
                    return {row[0][0]: row[place + 1] for row in table[2:]}
        raise AssertionError(f"no column {heading!r}")
