"""The HTML page: its size, its structure, its colours in both modes, and the values behind its figures."""

import base64
import io
import json
import re
from collections import Counter
from html import unescape
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from written_runs import Page, edit, scalar, write_run

from diffusability.core.report import build_report
from diffusability.core.report.figures.line_styles import variant_style
from diffusability.core.report.figures.theme import GROUNDS, LINES, SHADES, TEXT, variable
from diffusability.core.report.pages.html_page import moved_page

NAMES = ("baseline", "se", "scale_equivariance_with_factors_2_and_4_and_a_weight_of_0.25", "kl", "vf-dinov2", "eq")
MORE = ("viv", "lds", "cds", "srss", "sec", "lnc", "lpips", "rfid", "density_cv", "spectral_slope")
NUM_SEEDS = 2
SPEC = """
name: many
stages:
  finetune:
    kind: train
    objective: {kind: reconstruction, autoencoder: {kind: stage, stage: pretrain}}
    regularizers: [{kind: kl, weight: 1.0e-6}]
variants:
  se: {stages.finetune.regularizers: [{kind: scale-equivariance, weight: 0.25}], stages.finetune.regularizers.0.x: 1}
"""


def photograph_like(seed: int, side: int) -> Image.Image:
    """Noise with the spectrum of photographs, amplitude 1/f, which compresses as they do."""
    generator = np.random.default_rng(seed)
    frequencies = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None]) + 1 / side
    spectrum = np.fft.fft2(generator.normal(size=(3, side, side))) / frequencies
    pixels = np.fft.ifft2(spectrum).real
    return Image.fromarray((128 + 45 * pixels / pixels.std()).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of six variants with two seeds each, 18 metrics, long names, missing values and large pictures."""
    gains = {f"{name}-{seed}": place / 5 + seed / 20 for place, name in enumerate(NAMES) for seed in range(NUM_SEEDS)}
    run = write_run(tmp_path_factory.mktemp("runs") / "many", gains, ["finetune", "spectrum", "generation"])
    seeds = {f"{name}-{seed}": {"base": name, "seed": seed} for name in NAMES for seed in range(NUM_SEEDS)}

    def measured(content: Any) -> None:
        for place, stages in enumerate(content["variants"].values()):
            stages["spectrum"] |= {
                name: scalar(1.0 + 0.05 * place * (index + 1), (True, False, None)[index % 3])
                for index, name in enumerate(MORE)
                if (place + index) % 9
            }
        content["variants"]["se-1"]["spectrum"]["psnr"]["value"] = None
        del content["variants"]["kl-1"]["generation"]["fdd"]

    edit(run / "run.json", lambda record: record.update(variant_seeds=seeds))
    edit(run / "results.json", measured)
    (run / "spec.yaml").write_text(SPEC)
    record = json.loads((run / "run.json").read_text())["variants"]
    for place, name in enumerate(NAMES):  # the first seed's pictures are shown
        directory = run / record[f"{name}-0"]["generation"]["directory"]
        photograph_like(place, 900).save(directory / "samples" / "samples.png")
    build_report([run])
    return run


@pytest.fixture(scope="module")
def page(many: Path) -> Page:
    return Page(many / "report.html")


def svg_pieces(run: Path) -> list[tuple[dict[str, str], str]]:
    """Attributes and content of each figure's panel."""
    text = (run / "report.html").read_text(encoding="utf-8")
    pieces = re.findall(r'<svg class="panel"([^>]*)>(.*?)</svg>', text, flags=re.DOTALL)
    return [({key: unescape(a or b) for key, a, b in _attributes(head)}, body) for head, body in pieces]


def _attributes(head: str) -> list[tuple[str, str, str]]:
    return re.findall(r"""([\w-]+)=(?:"([^"]*)"|'([^']*)')""", head)


def test_a_report_with_large_pictures_is_small_enough_to_send(many: Path) -> None:
    """Six grids of nearly 2 MB each come in 3 MB with everything else, the figures in less than half of it."""
    assert sum(path.stat().st_size for path in many.glob("stages/generation-*/samples/samples.png")) > 9e6
    size = (many / "report.html").stat().st_size
    assert size < 3e6
    assert sum(len(body) + sum(map(len, head.values())) for head, body in svg_pieces(many)) < 1.5e6


def test_links_of_the_page_lead_to_parts_of_it(page: Page) -> None:
    """The table of contents, names of metrics and figures' definitions: each target exists, once."""
    ids = Counter(page.values("id"))
    assert max(ids.values()) == 1
    targets = {link.removeprefix("#") for link in page.values("href") if link.startswith("#")}
    assert targets <= set(ids)
    assert {"verdict", "keys", "results", "curves", "samples", "training", "glossary", "details"} <= targets
    assert {"figure-spectrum", "glossary-metric-viv", "samples-0"} <= targets


def test_the_page_can_be_read_without_seeing_it(page: Page) -> None:
    """Alternative texts, names of regions, scopes of headings, and headings without a jump of levels."""
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert all(attrs.get("aria-label") for _, attrs in page.tags if attrs.get("role") in ("img", "region"))
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    assert all("tabindex" in attrs for _, attrs in page.tags if attrs.get("class") == "scroll")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    labelled = {attrs["for"] for tag, attrs in page.tags if tag == "label"}
    assert {attrs["id"] for tag, attrs in page.tags if tag == "input"} == labelled


def test_many_metrics_are_rows_under_their_stages(page: Page) -> None:
    """The heading row holds the variants; each metric's row as many numbers; stages head their groups."""
    (table,) = [table for table in page.tables if table[0][0][0] == "metric"]
    assert [text for text, _ in table[0][1:-1]] == [f"{NAMES[0]} baseline", *NAMES[1:]]
    rows = {row[0][0]: [text for text, _ in row[1:]] for row in table[1:]}
    assert [name for name, values in rows.items() if not values] == ["spectrum", "generation"]
    assert rows["PSNR ↑ dB"][0].startswith("30.20 ± ")
    assert len(rows["PSNR ↑ dB"]) == len(NAMES) + 1
    assert rows["HF share ↓"][-1] == "0.0871"
    assert len(rows) == 2 + 6 + len(MORE) + 2


@pytest.mark.parametrize(("more", "as_rows"), [(2, False), (3, True)])
def test_eight_metrics_are_columns_and_nine_are_rows(tmp_path: Path, more: int, as_rows: bool) -> None:
    """Six metrics of the run and two or three others: all are there, with their values, either way."""
    run = write_run(tmp_path / "run", {"vanilla": 0.0, "se": 1.0}, ["spectrum"])

    def measured(content: Any) -> None:
        for stages in content["variants"].values():
            stages["spectrum"] |= {name: scalar(2.5, None) for name in MORE[:more]}

    edit(run / "results.json", measured)
    build_report([run])
    results = Page(run / "report.html").tables[0]
    assert (results[0][0][0] == "metric") is as_rows
    headings = [row[0][0] for row in results[2:]] if as_rows else [text for text, _ in results[1]]
    assert [heading.split()[0] for heading in headings] == [
        *("PSNR", "SSIM", "KL", "HF", "Spectral", "Chop-off"),
        *("VIV", "LDS", "CDS")[:more],
    ]
    cells = [text for row in results for text, _ in row]
    assert sum(cell.startswith("2.500") for cell in cells) == 2 * more


def test_the_glossary_explains_metrics_and_the_kinds_of_the_spec(page: Page, many: Path) -> None:
    """Regularizers of all variants, also below paths with dots; no stage that a spec refers to; also in Markdown."""
    ids = set(page.values("id"))
    assert {f"glossary-metric-{name}" for name in (*MORE, "psnr", "fdd")} <= ids
    named = {entry for entry in ids if entry.startswith("glossary-") and not entry.startswith("glossary-metric")}
    assert {"glossary-regularizer-kl", "glossary-regularizer-scale-equivariance"} <= named
    assert "glossary-objective-reconstruction" in named
    assert not any("stage" in entry for entry in named)
    assert "Downsampled latents must decode to the downsampled image" in page.text
    assert "velocity irreducible variance" in page.text
    markdown = (many / "report.md").read_text()
    assert "- **scale-equivariance** (regularizer): Downsampled latents" in markdown
    assert "- **VIV** (`viv`): velocity irreducible variance" in markdown


def test_figures_are_there_without_the_script(many: Path) -> None:
    """Every panel holds lines in the colour of each variant that it names, and the page has one script, of its own."""
    text = (many / "report.html").read_text(encoding="utf-8")
    assert text.count("<script") == 1
    assert 'src="' not in text.split("<script")[1].split("</script>")[0]
    spectra = [body for head, body in svg_pieces(many) if "Spectrum of the latents" in head["aria-label"]]
    assert len(spectra) == 1
    for place in range(len(NAMES)):
        assert f"stroke: {variable(variant_style(place).color)}" in spectra[0]
    for _, body in svg_pieces(many):
        assert "#ffffff" not in body
        assert "<path" in body
        assert "DejaVu" not in body


def test_values_under_the_pointer_are_the_values_of_the_curve(many: Path) -> None:
    """Held against the chop-off curves as the run's results have them, and each place against the drawn path."""
    head, body = next(piece for piece in svg_pieces(many) if "chop-off" in piece[0]["aria-label"].lower())
    series = json.loads(head["data-series"])
    results = json.loads((many / "results.json").read_text())["variants"]
    drawn = {(round(float(x), 1), round(float(y), 1)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", body)}
    for line in series:
        if line["label"] not in results:
            continue
        curve = results[line["label"]]["spectrum"]["chop_off_curve"]["curve"]
        np.testing.assert_allclose(line["x"], curve["x"], rtol=1e-3)
        np.testing.assert_allclose(line["y"], curve["y"], rtol=1e-3)
        for x, y in zip(line["px"], line["py"], strict=True):
            assert any(abs(x - a) <= 0.11 and abs(y - b) <= 0.11 for a, b in drawn), (line["label"], x, y)
    assert {line["label"] for line in series} == {*results, "RGB"}
    left, top, width, height = map(float, head["viewBox"].split())
    assert all(left <= x <= left + width for line in series for x in line["px"])
    assert all(top <= y <= top + height for line in series for y in line["py"])


def luminance(color: str) -> float:
    """Relative luminance by WCAG 2.2."""
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [entry / 12.92 if entry <= 0.04045 else ((entry + 0.055) / 1.055) ** 2.4 for entry in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Contrast ratio by WCAG 2.2."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_and_lines_stand_out_from_their_grounds(mode: str) -> None:
    """4.5 for text (WCAG 1.4.3), 3 for lines of figures (1.4.11), whether the page is light or dark."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    grounds = {name: getattr(shade, mode) for name, shade in GROUNDS.items()}
    for name, shade in TEXT.items():
        for ground, color in grounds.items():
            assert contrast(getattr(shade, mode), color) >= 4.5, (name, ground)
    for name, shade in LINES.items():
        for ground in ("ground", "soft"):
            assert contrast(getattr(shade, mode), grounds[ground]) >= 3, (name, ground)
    for kind in ("mark", "done", "failed", "running"):
        ground = getattr(SHADES.get(f"{kind}-ground", GROUNDS["ground"]), mode)
        assert contrast(getattr(SHADES[f"{kind}-text"], mode), ground) >= 4.5, kind
    lines = [getattr(shade, mode) for shade in LINES.values()]
    assert len(set(lines)) == len(lines)


def test_every_colour_of_the_page_has_a_dark_one(many: Path) -> None:
    """Variables that styles and figures use are declared for both modes, and nothing is coloured without one."""
    text = (many / "report.html").read_text(encoding="utf-8")
    used = set(re.findall(r"var\(--([\w-]+)\)", text))
    assert used - {"count", "width", "drawing"} <= set(SHADES)
    css = resources.files("diffusability.core.report.pages").joinpath("report.css").read_text()
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b", css.replace("#theme-", ""))
    assert not [body for _, body in svg_pieces(many) if re.search(r"#[0-9a-f]{6}\b", body)]
    for name, shade in SHADES.items():
        assert text.count(f"--{name}: {shade.light};") >= 1
        assert text.count(f"--{name}: {shade.dark};") >= 2  # the reader's system, and the switch
    assert "@media print" in text


def write_real_images(run: Path, variant: str, seed: int) -> Path:
    stage = json.loads((run / "run.json").read_text())["variants"][variant]["generation"]["directory"]
    path = run / stage / "samples" / "real-images.png"
    photograph_like(seed, 96).save(path)
    return path


def test_real_images_stand_beside_samples(tmp_path: Path) -> None:
    """Once where all variants have the same, before their samples and in no row of their own; else one for each."""
    run = write_run(tmp_path / "run", {"vanilla": 0.0, "se": 1.0}, ["dit", "generation"])
    real = write_real_images(run, "vanilla", 0)
    write_real_images(run, "se", 0)
    build_report([run])
    alts = [text for text in Page(run / "report.html").values("alt") if text.startswith("generation")]
    assert alts == ["generation, real images", "generation, vanilla", "generation, se"]
    markdown = (run / "report.md").read_text()
    assert f"![generation of real images]({real.relative_to(run).as_posix()})" in markdown
    write_real_images(run, "se", 1)
    build_report([run])
    alts = [text for text in Page(run / "report.html").values("alt") if text.startswith("generation")]
    assert alts[:2] == ["generation, real images (vanilla)", "generation, real images (se)"]
    assert len(alts) == 4


def test_pictures_with_transparency_are_on_white(tmp_path: Path) -> None:
    """As a browser shows the file itself on a white page: not black, as dropping the channel would make it."""
    run = write_run(tmp_path / "run", {"vanilla": 0.0}, ["spectrum"])
    figures = next(run.glob("stages/spectrum-*/figures"))
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(figures / "chop-off-pictures.png")
    build_report([run])
    (source,) = [uri for uri in Page(run / "report.html").values("src") if uri.startswith("data:image/webp")]
    with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as image:
        assert np.asarray(image).min() == 255


def test_a_page_that_is_copied_leads_to_the_same_files(many: Path, tmp_path: Path) -> None:
    """As ``dfz score --report`` copies it: from a folder elsewhere, links to files lead there, those within stay."""
    target = tmp_path / "elsewhere" / "here"
    target.mkdir(parents=True)
    copy = target / "score.html"
    copy.write_text(moved_page((many / "report.html").read_text(encoding="utf-8"), many, target), encoding="utf-8")
    original, moved = (Page(path).values("href") for path in (many / "report.html", copy))
    assert len(original) == len(moved)
    for link, other in zip(original, moved, strict=True):
        if link.startswith("#"):
            assert other == link
        else:
            assert (target / other).resolve() == (many / link).resolve()
