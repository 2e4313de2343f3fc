"""Whole reports, made from run folders that are written here as a run leaves them."""

import base64
import io
import json
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image
from rich.console import Console

from diffusability.core.errors import SpecError
from diffusability.core.report import build_report
from diffusability.core.report.figures.line_styles import variant_style
from diffusability.core.report.tables.results_table import print_results
from diffusability.core.run.folder_reader import read_run
from diffusability.core.run.folder_writer import RunFolder

MINUS = "\u2212"
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


def test_notes_of_results_and_skipped_steps_are_in_the_report(tmp_path: Path) -> None:
    """Each note once, with its metrics and variants, in HTML, Markdown and on the console; a shared one of two metrics;
    skipped steps before the numbers."""
    root = write_run(tmp_path / "run", {"control": 0.0, "se": 1.0}, ["finetune", "generation"])
    bias, few = "about 44 of it is due to <few> images", "few samples"
    dead = "1 of 4 latent channels is constant: left out"

    def note(content: Any) -> None:
        for variant, own in (("control", few), ("se", bias)):
            generation = content["variants"][variant]["generation"]
            generation["fdd"]["note"] = f"{dead}; {own}"
            generation["sliced_wasserstein"]["note"] = dead

    edit(root / "results.json", note)
    stage = json.loads((root / "run.json").read_text())["variants"]["se"]["finetune"]["directory"]
    skipped = "42 of 400 steps were skipped: a loss or gradient was not finite"
    (root / stage / "remarks.txt").write_text(f"{skipped}\n")
    build_report([root])
    expected = [
        f"generation: FDD, Sliced W.: {dead} (control, se)",
        f"generation: FDD: {few} (control)",
        f"generation: FDD: {bias} (se)",
        f"finetune: {skipped} (se)",
    ]
    text = MarkdownIt().render((root / "report.md").read_text())
    console = Console(width=400, record=True, file=io.StringIO())
    print_results(console, root)
    shown = console.export_text()
    for page in (text, (root / "report.html").read_text()):
        listed = re.findall(r"<li>(.*?)</li>", page)
        for line in expected:
            assert listed.count(line.replace("<", "&lt;").replace(">", "&gt;")) == 1, line
            assert shown.count(line) == 1, line


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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three variants with its report."""
    run = write_run(tmp_path_factory.mktemp("runs") / "quickstart", {"vanilla": 0.0, "se": 1.0, "eq-reg": 0.6})
    assert build_report([run]) == [run / "report.html", run / "report.md"]
    return run


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A finished run of two variants and one evaluated stage, without its report."""
    return write_run(tmp_path / "small", {"vanilla": 0.0, "se": 1.0}, stages=("spectrum",))


def test_best_value_of_each_ranked_column_is_marked(finished: Path) -> None:
    """Held against the extremes of the values that the fixture wrote: higher PSNR, lower HF share and FDD win."""
    page = Page(finished / "report.html")
    for heading in ("PSNR ↑", "SSIM ↑", "HF share ↓", "Chop-off area ↑", "FDD ↓", "Sliced W. ↓"):
        marked = [variant for variant, (_, kind) in page.column(heading).items() if "best" in kind]
        assert marked == ["se"], heading
    for heading in ("KL / dim", "Spectral gap"):
        assert not any("best" in kind for _, kind in page.column(heading).values()), heading


def test_table_shows_units_values_and_differences_from_the_first_variant(finished: Path) -> None:
    """Held against the numbers that the fixture wrote: 30.20 + 0.17 dB, 415.87 - 46.72."""
    page = Page(finished / "report.html")
    psnr = {variant: text for variant, (text, _) in page.column("PSNR ↑ dB").items()}
    assert psnr == {
        "vanilla": "30.20 ± 1e-05",
        "se": "30.37 ± 1e-05 +0.17 [0.16997, 0.17003] better",
        "eq-reg": "30.30 ± 1e-05 +0.10 [0.10197, 0.10203] better",
        "images themselves": "",
    }
    assert page.column("FDD")["se"][0].startswith(f"369.15 ± 1e-05 {MINUS}46.72 [{MINUS}46.7")
    assert page.column("HF share")["images themselves"][0] == "0.0871"
    assert {"psnr", "fdd", "kl_per_dim"} <= {title.split(":")[0] for title in page.values("title")}


def test_html_needs_nothing_from_outside(finished: Path) -> None:
    """Every source is inside the file, every link is relative and leads to something that exists."""
    page = Page(finished / "report.html")
    sources = page.values("src")
    assert len(sources) > 10
    assert all(source.startswith("data:image/") for source in sources)
    links = [link for link in page.values("href") if not link.startswith("#")]
    assert links
    for link in links:
        assert "://" not in link
        assert (finished / link).exists(), link
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed"}
    text = (finished / "report.html").read_text()
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert "http" not in text
    assert page.open == []


def test_embedded_pictures_are_the_pictures_of_the_run(finished: Path) -> None:
    """Decoded from the page, the newest grids and pictures are those of the run to within what WebP loses; drawings
    byte for byte.
    """
    contents = [base64.b64decode(source.split(",")[1]) for source in Page(finished / "report.html").values("src")]
    newest = [*finished.glob("stages/*/samples/step-000400.png"), *finished.glob("stages/*/samples/samples.png")]
    wanted = [*newest, *finished.glob("stages/*/figures/*.png")]
    assert len(newest) == 10
    embedded = [pixels(content) for content in contents if content[:4] == b"RIFF"]
    assert len(embedded) == len(wanted)
    for path in wanted:
        original = pixels(path.read_bytes())
        same = [picture for picture in embedded if picture.shape == original.shape]
        assert min(np.abs(picture - original).mean() for picture in same) < 3, path
    drawings = {content for content in contents if content[:4] == b"<svg"}
    assert drawings == {path.read_bytes() for path in finished.glob("stages/*/figures/*.svg")}


def pixels(content: bytes) -> np.ndarray[Any, Any]:
    """A picture of any format as RGB."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64)


def test_svg_figures_hold_the_color_of_every_variant(finished: Path) -> None:
    """The drawn files, read as text, hold each variant's colour, and black for RGB."""
    colors = [variant_style(place).color for place in range(3)]
    for name in ("spectrum", "chop-off", "curve-radial_energy", "training-finetune", "training-dit"):
        text = (finished / "figures" / f"{name}.svg").read_text()
        assert all(color in text for color in colors), name
    assert "#000000" in (finished / "figures" / "spectrum.svg").read_text()


def test_shared_stage_is_shown_once(finished: Path) -> None:
    """``pretrain`` is one folder of three variants: one line of the stage list, one picture, one training curve."""
    page = Page(finished / "report.html")
    stages = [row for table in page.tables for row in table if row[0][0] == "pretrain"]
    assert [row[2][0] for row in stages] == ["all variants"]
    assert [text for text in page.values("alt") if text.startswith("pretrain")] == ["pretrain, all variants"]
    assert "finished, 16 stages" in page.text


def test_markdown_table_parses_to_the_same_numbers(finished: Path) -> None:
    """Held against markdown-it, a CommonMark parser with GitHub's tables."""
    tables = markdown_tables(finished / "report.md")
    assert tables[0][0] == [
        "variant",
        "PSNR (dB) ↑",
        "SSIM ↑",
        "KL / dim (nats)",
        "HF share ↓",
        "Spectral gap",
        "Chop-off area (dB) ↑",
    ]
    assert tables[0][1][:3] == ["vanilla", "30.20 ± 1e-05", "0.9123 ± 1e-05"]
    assert tables[0][2][:2] == ["se", r"**30.37** ± 1e-05 (+0.17 \[0.16997, 0.17003\])"]
    assert tables[0][4][4] == "0.0871"
    assert tables[1][2][0] == "se"
    assert tables[1][2][1].startswith(f"**369.15** ± 1e-05 ({MINUS}46.72 ")
    assert tables[1][2][2].startswith(f"**0.03520** ± 1e-05 ({MINUS}0.00600 ")
    images = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (finished / "report.md").read_text())
    assert len(images) > 15
    assert all((finished / image).is_file() for image in images)


def markdown_tables(path: Path) -> list[list[list[str]]]:
    """The cells of each table, with their inline markup."""
    tables: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text()):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and tables and token.level > 3:
            tables[-1][-1].append(token.content)
    return tables


def test_report_is_reproducible(small: Path) -> None:
    """Built twice from the same folder, every file is the same byte for byte."""

    def built() -> dict[str, bytes]:
        pages = build_report([small])
        return {path.name: path.read_bytes() for path in [*pages, *(small / "figures").iterdir()]}

    first = built()
    assert len(first) > 6
    assert built() == first


def test_names_are_escaped(tmp_path: Path) -> None:
    """Names with markup come back from the HTML and markdown parsers as they were, and make no elements."""
    names = {"<b>bold</b>&amp;": 0.0, "_se|*x*": 1.0, "$a$ and $b": 0.5, "変種": 0.2}
    run = write_run(tmp_path / "run", names, stages=("finetune", "spectrum"))
    edit(run / "run.json", lambda record: record.update(name='<script>alert("1")</script>', command="a < b && c"))
    build_report([run])
    page = Page(run / "report.html")
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "b>bold" not in {tag for tag, _ in page.tags}
    assert '<script>alert("1")</script>' in page.text
    assert "a < b && c" in page.text
    assert set(page.column("PSNR")) == {*names, "images themselves"}
    rows = markdown_tables(run / "report.md")[0]
    rendered = [MarkdownIt("commonmark").renderInline(row[0]) for row in rows[1:5]]
    assert rendered == ["&lt;b&gt;bold&lt;/b&gt;&amp;amp;", "_se|*x*", "$a$ and $b", "変種"]
    assert all(len(row) == len(rows[0]) for row in rows)


def test_several_runs_are_compared(finished: Path, tmp_path: Path) -> None:
    """Variants are called run/variant, the first of the first is the baseline, links lead to both runs."""
    other = write_run(tmp_path / "flux", {"vanilla": 0.1, "se": 1.2}, stages=("pretrain", "spectrum", "generation"))
    output = tmp_path / "compared" / "here"
    assert build_report([finished, other], output=output) == [output / "report.html", output / "report.md"]
    page = Page(output / "report.html")
    fdd = page.column("FDD")
    variants = ["quickstart/vanilla", "quickstart/se", "quickstart/eq-reg", "flux/vanilla", "flux/se"]
    assert [name for name in fdd if name != "images themselves"] == variants
    assert [variant for variant, (_, kind) in fdd.items() if "best" in kind] == ["flux/se"]
    assert fdd["flux/se"][0].startswith(f"359.81 ± 1e-05 {MINUS}56.06 [{MINUS}56.06")
    links = [link for link in page.values("href") if not link.startswith("#")]
    assert all((output / link).exists() for link in links)
    assert any("flux/stages/" in link for link in links)
    assert any("quickstart/stages/" in link for link in links)
    assert "flux, all variants" in page.text


def test_a_comparison_leaves_the_reports_of_its_runs(small: Path, tmp_path: Path) -> None:
    """By default it goes beside the first run; a run's folder is refused; a run that is named twice counts once."""
    other = write_run(tmp_path / "other" / "small", {"se": 0.5}, stages=("spectrum",))
    (small / "report.html").write_text("its own")
    folder = small.resolve().parent / "comparison-small-small"
    assert build_report([small, other, small]) == [folder / "report.html", folder / "report.md"]
    assert (small / "report.html").read_text() == "its own"
    assert not (other / "report.html").exists()
    for run in (small, other):
        with pytest.raises(SpecError, match="a run's folder, whose own report would be lost"):
            build_report([small, other], run)
    variants = set(Page(folder / "report.html").column("PSNR")) - {"images themselves"}
    assert variants == {"small (1)/vanilla", "small (1)/se", "small (2)/se"}


def drop_results(run: Path) -> None:
    (run / "results.json").unlink()
    for path in run.glob("stages/*/results.json"):
        path.unlink()


def cut_results(run: Path) -> None:
    (run / "results.json").write_text('{"name": "small", "vari')
    for path in run.glob("stages/*/results.json"):
        path.write_text("[1, 2")


def odd_results(run: Path) -> None:
    def change(content: Any) -> None:
        content["variants"]["vanilla"]["spectrum"] |= {
            "psnr": scalar(float("nan"), True, "dB"),
            "ssim": scalar(None, True),
            "kl_per_dim": 3,
            "high_frequency_share": {"value": "0.2"},
            "chop_off_area": scalar(float("-inf"), True),
            "latent_spectrum_curve": curve([0, 1], [float("nan")] * 2, ("x", "y")),
            "chop_off_curve": {"curve": {"x": [1, 2, 3], "y": [1]}},
            "radial_energy_curve": {"curve": None},
        }
        content["variants"]["se"] = "later"

    edit(run / "results.json", change)
    next(run.glob("stages/spectrum-*/results.json")).unlink()


def odd_record(run: Path) -> None:
    def change(record: Any) -> None:
        record["variants"]["vanilla"]["spectrum"] |= {"directory": None, "seconds": "long", "status": "lost"}
        record["variants"]["vanilla"]["dit"] = 7
        record["variants"]["se"] = None
        record |= {"created": "yesterday", "versions": None}

    edit(run / "run.json", change)


def no_variants(run: Path) -> None:
    edit(run / "run.json", lambda record: record.pop("variants"))
    (run / "results.json").unlink()


def lost_stages(run: Path) -> None:
    for directory in run.glob("stages/*"):
        directory.rename(run / directory.name)


def bad_files(run: Path) -> None:
    for directory in run.glob("stages/*"):
        (directory / "resolved.yaml").write_text("a: [b")
        (directory / "metrics.jsonl").write_bytes(
            b'{"step": 1, "loss": NaN}\n\xff\n[]\n{"step": 2, "loss": null}\n{"st'
        )
        (directory / "samples").mkdir()
        (directory / "samples" / "step-000001.png").write_bytes(b"\x89PNG\r\n")
        (directory / "figures" / "empty.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "shown"),
    [
        (drop_results, "No results yet."),
        (cut_results, "is not valid JSON"),
        (odd_results, "expected an object"),
        (odd_record, "lost"),
        (no_variants, "no stages yet"),
        (lost_stages, "30.37"),
        (bad_files, "3 of 5 lines cannot be read"),
    ],
)
def test_damaged_runs_have_a_report(small: Path, damage: Callable[[Path], None], shown: str) -> None:
    """Whatever is missing or malformed, both pages are written, well-formed, and say what the reader should know."""
    damage(small)
    html, markdown = build_report([small])
    page = Page(html)
    assert page.open == []
    assert shown in page.text
    assert markdown.read_text().startswith("# small\n")


def test_absent_values_are_dashes(small: Path) -> None:
    """NaN, infinity, null and text where a number should be are all shown as a dash, and never win."""
    odd_results(small)
    build_report([small])
    page = Page(small / "report.html")
    for heading in ("PSNR", "SSIM", "HF share", "Chop-off area"):
        text, kind = page.column(heading)["vanilla"]
        assert text.strip() == "—", heading
        assert "best" not in kind
    assert page.column("PSNR")["se"][0].startswith("30.37")


def test_unfinished_run_says_how_far_it_is(tmp_path: Path) -> None:
    """Held against the statuses written: of 3 distinct stages, one is done, one failed, one has not begun."""
    run = write_run(tmp_path / "run", {"vanilla": 0.0, "se": 1.0}, stages=("pretrain", "dit"))

    def change(record: Any) -> None:
        record["variants"]["vanilla"]["dit"] |= {"status": "failed", "seconds": None}
        record["variants"]["se"]["dit"] |= {"status": "pending", "seconds": None}

    edit(run / "run.json", change)
    (run / "results.json").unlink()
    pending = run / json.loads((run / "run.json").read_text())["variants"]["se"]["dit"]["directory"]
    pending.rename(tmp_path / "gone")
    build_report([run])
    page = Page(run / "report.html")
    assert "unfinished: 1 of 3 stages done, 1 failed" in page.text
    stages = {(row[0][0], row[2][0]): [text for text, _ in row[3:7]] for row in page.tables[-2][1:]}
    assert stages["pretrain", "all variants"][:3] == ["done", "400 of 400 steps", "1 min 2 s"]
    assert stages["dit", "vanilla"][:3] == ["failed", "400 of 400 steps", "—"]
    assert stages["dit", "se"] == ["pending", "—", "—", "—"]


def test_a_run_whose_process_was_killed_is_not_running(tmp_path: Path) -> None:
    """``run.json`` says "running" for ever; the lock, which dies with its holder, tells."""
    run = write_run(tmp_path / "run", {"se": 1.0}, stages=("pretrain", "dit"))
    edit(run / "run.json", lambda record: record["variants"]["se"]["dit"].update(status="running"))
    assert read_run(run).variants["se"]["dit"].status == "running"  # a copy without the lock: nobody can tell
    with RunFolder(run).locked():
        assert read_run(run).variants["se"]["dit"].status == "running"
    assert read_run(run).variants["se"]["dit"].status == "interrupted"


def test_large_pictures_are_shrunk(small: Path) -> None:
    """Noise does not compress: 12 MB of it come within the budget of pictures, and the link leads to the whole."""
    pixels = np.random.default_rng(0).integers(0, 255, (2000, 2000, 3), dtype=np.uint8)
    path = next(small.glob("stages/spectrum-*/figures")) / "noise.png"
    Image.fromarray(pixels).save(path)
    build_report([small])
    assert path.stat().st_size > 11e6
    assert (small / "report.html").stat().st_size < 1.5e6
    page = Page(small / "report.html")
    assert re.search("all 2000 . 2000 pixels", page.text)
    assert path.relative_to(small).as_posix() in page.values("href")


@pytest.mark.parametrize("damage", ["absent", "empty", "json", "list"])
def test_folder_that_is_no_run_is_refused(small: Path, tmp_path: Path, damage: str) -> None:
    """The error names the folder and what was expected, and nothing is written, also not to the other run."""
    bad = tmp_path / "bad"
    if damage != "absent":
        bad.mkdir()
    if damage == "json":
        (bad / "run.json").write_text('{"name": ')
    if damage == "list":
        (bad / "run.json").write_text("[]")
    with pytest.raises(SpecError, match=r"bad.*expected a folder that 'dfz run' wrote"):
        build_report([small, bad])
    assert not (small / "report.html").exists()


def test_no_run_folder_is_refused() -> None:
    """An empty list is a mistake of the command line."""
    with pytest.raises(SpecError, match="no run folder was given"):
        build_report([])


def test_report_does_not_import_torch() -> None:
    """Looked up in the modules of a fresh interpreter."""
    code = (
        "import sys, diffusability.core.report; sys.exit('torch' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
