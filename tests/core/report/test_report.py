"""Whole reports, made from run folders that are written here as a run leaves them."""

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image
from rich.console import Console
from written_runs import Page, curve, edit, scalar, write_run

from diffusability.core.errors import SpecError
from diffusability.core.report import build_report
from diffusability.core.report.figures.line_styles import variant_style
from diffusability.core.report.tables.results_table import print_results
from diffusability.core.run.folder_reader import read_run
from diffusability.core.run.folder_writer import RunFolder

MINUS = "\u2212"


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
