"""The paper's table of runs that are written here, in all three formats."""

import re
import shutil
import subprocess
from pathlib import Path

import attrs
import numpy as np
import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from diffusability.core.cli.app import app
from diffusability.core.errors import SpecError
from diffusability.core.report import build_report, render_table
from diffusability.core.report.comparison import compare
from diffusability.core.report.tables.metric_table import metric_columns
from diffusability.core.report.tables.number_format import MINUS as M
from diffusability.core.report.tables.paper_table import paper_table
from diffusability.core.report.tables.paper_table_html import paper_table_html
from diffusability.core.report.tables.paper_table_latex import escape_latex, paper_table_latex
from diffusability.core.report.tables.paper_table_markdown import paper_table_markdown
from diffusability.core.run.folder_reader import Run, Stage
from diffusability.core.run.folder_writer import write_json
from diffusability.core.run.results import Metric
from diffusability.core.specs.table import TableSpec

PSNR = {"vanilla": [30.1, 30.2, 30.3], "se": [30.4, 30.5, 30.9]}
FDD = {"vanilla": [400.0, 410.0, 405.0], "se": [300.0, 320.0, None]}
SPEC = {
    "caption": "100% of it",
    "columns": [
        {"stage": "measure", "metric": "psnr", "label": "PSNR"},
        {"stage": "generate", "metric": "fdd", "label": "DiT-S/2", "group": "FDD"},
        {"stage": "generate-l", "metric": "fdd", "label": "DiT-L/2", "group": "FDD"},
    ],
    "rows": {"vanilla": "A&E", "se": "A&E + SE"},
    "published": {"vanilla": [30.18, 992.05, None]},
}


def stage(name, metric, value, directory, spread=None):
    """A stage with one metric, or without any result."""
    known = {"psnr": True, "fdd": False}
    metrics = (
        {}
        if value is None
        else {metric: Metric(name=metric, value=value, higher_is_better=known[metric], spread=spread)}
    )
    return Stage(name=name, kind="evaluate", status="done", directory=Path(directory), metrics=metrics)


def seeded(psnr=PSNR, fdd=FDD, spread=None):
    """A run of two variants with three seeds, of which the last has no FDD yet."""
    variants, seeds = {}, {}
    for seed in range(len(psnr["vanilla"])):
        for base in psnr:
            name = f"{base}-seed{seed}"
            seeds[name] = (base, seed)
            variants[name] = {
                "measure": stage("measure", "psnr", psnr[base][seed], f"measure-{name}", spread),
                "generate": stage("generate", "fdd", fdd[base][seed], f"generate-{name}", spread),
                "generate-l": stage("generate-l", "fdd", None, f"generate-l-{name}"),
            }
    return Run(
        directory=Path(),
        name="run",
        created="",
        command="",
        versions={},
        variants=variants,
        spec=None,
        notes=[],
        seeds=seeds,
    )


def tabled(run, **changes):
    return paper_table(run, TableSpec.model_validate(SPEC | changes))


def test_cells_hold_mean_and_deviation_over_seeds_and_paired_differences():
    """Against numpy; FDD of the seeds that both variants have: -100 and -90."""
    (first, fdd, missing), (second, other, _) = tabled(seeded()).cells
    assert first.estimate.mean == pytest.approx(np.mean(PSNR["vanilla"]))
    assert second.estimate.std == pytest.approx(np.std(PSNR["se"], ddof=1))
    assert (first.difference, first.best, second.best) == (None, False, True)
    differences = np.subtract(PSNR["se"], PSNR["vanilla"])
    assert second.difference.mean == pytest.approx(differences.mean())
    assert second.difference.std == pytest.approx(differences.std(ddof=1))
    assert (fdd.estimate.num_seeds, other.estimate.num_seeds) == (3, 2)
    assert (other.difference.mean, other.difference.num_seeds) == (pytest.approx(-95), 2)
    assert (other.best, other.improves) == (True, True)
    assert missing.estimate is None
    assert tabled(seeded()).num_seeds == (2, 3)


def test_a_stage_that_seeds_share_counts_once():
    """One autoencoder for all seeds: no deviation over seeds of its one measurement, and no interval out of nothing."""
    run = seeded()
    shared = {base: stage("measure", "psnr", 30.0 + place, f"measure-{base}") for place, base in enumerate(PSNR)}
    variants = {name: stages | {"measure": shared[run.seeds[name][0]]} for name, stages in run.variants.items()}
    (first, *_), (second, *_) = tabled(attrs.evolve(run, variants=variants)).cells
    assert (first.estimate.mean, first.estimate.std, first.estimate.low) == (30.0, None, None)
    assert (second.difference.mean, second.difference.num_seeds) == (1.0, 1)
    everybody = {name: stages | {"measure": shared["se"]} for name, stages in run.variants.items()}
    (first, *_), (second, *_) = tabled(attrs.evolve(run, variants=everybody)).cells
    assert (second.difference, first.best, second.best) == (None, False, False)


def test_a_single_seed_has_the_interval_of_its_run():
    """Closed form: 1.96 spreads on both sides, and root two of that for a difference; no deviation over seeds."""
    run = seeded({"vanilla": [30.0], "se": [30.5]}, {"vanilla": [400.0], "se": [300.0]}, spread=0.1)
    (first, *_), (second, *_) = tabled(run).cells
    assert (first.value, first.std, first.interval) == ("30.00", "", "[29.80, 30.20]")
    assert (second.delta, second.delta_interval) == ("+0.50", "[0.22, 0.78]")


def test_a_difference_whose_interval_holds_zero_is_not_called_better():
    run = seeded({"vanilla": [30.0], "se": [30.1]}, {"vanilla": [400.0], "se": [300.0]}, spread=0.1)
    (_, (psnr, fdd, _)) = tabled(run).cells
    assert (psnr.improves, fdd.improves) == (None, True)


MARKDOWN = """
**100% of it**

|  | PSNR ↑ | FDD, DiT-S/2 ↓ | FDD, DiT-L/2 |
| --- | ---: | ---: | ---: |
| A&amp;E | 30.20 ± 0.10 (30.18) | 405.00 ± 5.00 (992.05) | — |
| A&amp;E + SE | **30.60** ± 0.26 | **310.00** ± 14.14 | — |

Mean ± standard deviation over 2 to 3 seeds. In parentheses: published. Bold: the best.
""".strip()


def test_markdown_is_as_printed_here():
    """The first table letter by letter; all of them parse to as many cells as they have headings."""
    text = paper_table_markdown(tabled(seeded()))
    assert text.startswith(MARKDOWN)
    assert "Difference from A&amp;E, and its 95% interval (paired t interval over 3 seeds; " in text
    assert f"| A&amp;E + SE | +0.40 \\[{M}0.03, 0.83\\] | {M}95.00 \\[{M}158.53, {M}31.47\\] |  |" in text
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert sum(token.type == "table_open" for token in tokens) == 3
    assert sum(token.type in ("th_open", "td_open") for token in tokens) == 4 * (3 + 3 + 2)


def test_html_is_as_printed_here():
    """Fragments: heads, a value with its published number, the best value with interval and difference, a gap."""
    text = paper_table_html(tabled(seeded()))
    for fragment in (
        "<figcaption>100% of it</figcaption>",
        '<tr><td></td><th></th><th colspan="2" class="group" scope="colgroup">FDD</th></tr>',
        ">PSNR ↑</th>",
        '>A&amp;E</th><td>30.20 <span class="std">± 0.10</span> <span class="published">(30.18)</span><br>',
        '<strong>310.00</strong> <span class="std">± 14.14</span><br><small>[182.94, 437.06]</small><br>'
        f'<small class="better">Δ {M}95.00 [{M}158.53, {M}31.47]</small>',
        "<td>—</td>",
        f"<small>Δ +0.40 [{M}0.03, 0.83]</small>",  # not significant: no colour
        "Δ: difference from A&amp;E, and its 95% interval",
    ):
        assert fragment in text, fragment


def test_transposed_tables_have_variants_as_columns():
    """In all formats: the same cells, groups as lines of their own or before the label."""
    table = tabled(seeded(), transpose=True)
    assert "|  | A&amp;E | A&amp;E + SE |" in paper_table_markdown(table)
    assert "| FDD, DiT-S/2 ↓ | 405.00 ± 5.00 (992.05) | **310.00** ± 14.14 |" in paper_table_markdown(table)
    assert '<tr class="group"><th colspan="3" scope="rowgroup">FDD</th></tr>' in paper_table_html(table)
    latex = paper_table_latex(table)
    assert r"\multicolumn{3}{l}{\emph{FDD}} \\" in latex
    assert r"\quad DiT-S/2 $\downarrow$ & 405.00" in latex
    plain = paper_table_latex(tabled(seeded()))
    assert sorted(re.findall(r"\\textbf{[^}]*}", latex)) == sorted(re.findall(r"\\textbf{[^}]*}", plain))


@pytest.mark.parametrize("transpose", [False, True])
def test_latex_is_well_formed(transpose, tmp_path):
    """Compiled where there is a pdflatex; read here anyway: braces, environments and cells of each line."""
    rows = {"vanilla": r"[a] {b} \c ~d^2 $e$ #1_2 <x|y>", "se": "* 50% & \u22121 \u00d7 2"}
    text = paper_table_latex(tabled(seeded(spread=0.01), rows=rows, transpose=transpose))
    check_latex(text)
    assert r"\toprule" in text
    if not transpose:
        assert r"{}[a] \{b\} \textbackslash{}c \textasciitilde{}d\textasciicircum{}2 \$e\$ \#1\_2" in text
        assert r"\multicolumn{2}{c}{FDD} \\" in text
        assert r"\cmidrule(lr){3-4}" in text
        assert r"\caption{100\% of it. Mean $\pm$ standard deviation" in text
        assert r"\textcolor{gray}{(992.05)}" in text
    if shutil.which("pdflatex"):
        head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,xcolor}\begin{document}"
        (tmp_path / "test.tex").write_text(f"{head}\n{text}\\end{{document}}\n", encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "test.tex"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def check_latex(text):
    """Balanced braces and environments; as many cells in each line as the tabular has columns; ASCII alone."""
    assert text.isascii()
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\.", "", body)
    depth = np.cumsum([{"{": 1, "}": -1}.get(sign, 0) for sign in bare])
    assert depth.min() >= 0
    assert depth[-1] == 0
    assert bare.count("$") % 2 == 0
    opened = []
    for kind, name in re.findall(r"\\(begin|end){(\w+)}", body):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    for columns, inside in re.findall(r"\\begin{tabular}{(\w+)}(.*?)\\end{tabular}", body, flags=re.DOTALL):
        for line in inside.splitlines():
            if not line.strip().endswith(r"\\"):
                assert line.strip() == "" or line.strip().startswith("\\")
                continue
            spans = [int(span) - 1 for span in re.findall(r"\\multicolumn{(\d+)}", line)]
            assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) == len(columns), line


def test_all_signs_of_latex_are_escaped():
    """Against the list of characters that TeX treats specially."""
    assert escape_latex("# $ % & _ { }") == r"\# \$ \% \& \_ \{ \}"
    assert escape_latex("a\n\\b") == r"a \textbackslash{}b"


def test_a_metric_that_no_stage_has_is_pointed_out():
    """Its stage ran, so that its name must be wrong; a stage without results says nothing yet."""
    columns = [{"stage": "measure", "metric": "psnrr"}, {"stage": "generate-l", "metric": "fid"}]
    (note,) = tabled(seeded(), columns=columns, published={}).notes
    assert note == "stage 'measure' has no metric 'psnrr'; did you mean 'psnr'? it has: psnr"


def test_labels_keep_their_own_arrows_and_metrics_their_usual_names():
    columns = [{"stage": "measure", "metric": "psnr", "label": "PSNR (↑)"}, {"stage": "generate", "metric": "fdd"}]
    table = tabled(seeded(), columns=columns, published={}, rows=None)
    assert [column.label for column in table.columns] == ["PSNR (↑)", "FDD ↓"]
    assert table.rows == ["vanilla", "se"]


def test_the_metric_table_has_a_row_for_all_seeds_of_a_variant():
    """Mean, deviation and paired difference; single runs keep their spread within the run."""
    comparison = compare([seeded()])
    assert [group.label for group in comparison.groups] == ["vanilla", "se"]
    psnr, fdd = metric_columns(comparison)
    assert psnr.values == pytest.approx([30.2, 30.6])
    assert [(cell.text, cell.spread, cell.delta) for cell in psnr.cells] == [
        ("30.20", "± 0.1", ""),
        ("30.60", "± 0.26", "+0.40"),
    ]
    assert "over 3 seeds" in psnr.cells[0].title
    assert fdd.cells[1].delta == f"{M}95.00"


def test_both_tables_say_the_same_of_a_metric():
    """Best value, direction, difference and interval of each metric in the paper's table and in the report's."""
    run = seeded()
    columns = {(column.stage, column.metric): column for column in metric_columns(compare([run]))}
    named = [{"stage": stage, "metric": metric} for stage, metric in columns]
    table = paper_table(run, TableSpec.model_validate({"columns": named}))
    assert len(columns) == len(table.columns) > 1
    for place, (column, metric) in enumerate(zip(columns.values(), table.columns, strict=True)):
        assert metric.higher_is_better == column.higher_is_better
        for row, cell in enumerate(column.cells):
            other = table.cells[row][place]
            assert (other.value, other.best, other.improves) == (cell.text, cell.best, cell.improves)
            assert (other.delta, other.delta_interval) == (cell.delta, cell.interval)


def write_run(folder, table=None):
    """The same run on disk, as a run leaves it."""
    run = seeded()
    variants = {
        name: {key: {"directory": f"stages/{member.directory}", "status": "done"} for key, member in stages.items()}
        for name, stages in run.variants.items()
    }
    results = {
        name: {
            key: {m.name: {"value": m.value, "higher_is_better": m.higher_is_better} for m in member.metrics.values()}
            for key, member in stages.items()
        }
        for name, stages in run.variants.items()
    }
    seeds = {name: {"base": base, "seed": seed} for name, (base, seed) in run.seeds.items()}
    folder.mkdir()
    write_json(folder / "run.json", {"name": "run", "variants": variants, "variant_seeds": seeds, "table": table})
    write_json(folder / "results.json", {"name": "run", "variants": results})
    return folder


def test_reports_hold_the_table(tmp_path):
    """At the top of the results, in each file; the table alone is the same as in there."""
    run = write_run(tmp_path / "run", SPEC)
    assert build_report([run]) == [run / "report.html", run / "report.md", run / "table.tex"]
    assert (run / "report.md").read_text().index("## Table") < (run / "report.md").read_text().index("## Results")
    assert MARKDOWN in (run / "report.md").read_text()
    assert render_table(run) == paper_table_markdown(tabled(seeded())) + "\n"
    assert render_table(run, "html").strip() in (run / "report.html").read_text()
    assert render_table(run, "latex") == (run / "table.tex").read_text()
    check_latex((run / "table.tex").read_text())


def test_the_command_prints_a_table_and_takes_another(tmp_path):
    """Standard output alone; nothing is written; what is wrong is said in a sentence."""
    run = write_run(tmp_path / "run")
    other = tmp_path / "other.yaml"
    other.write_text("columns: [{stage: measure, metric: psnr, label: P}]\nrows: {se: Ours}\n")
    before = sorted(run.iterdir())
    result = CliRunner().invoke(app, ["report", str(run), "--table", str(other), "--table-only"])
    assert result.stdout.startswith("|  | P ↑ |\n| --- | ---: |\n| Ours | 30.60 ± 0.26 |\n")
    result = CliRunner().invoke(app, ["report", str(run), "--table", str(other), "--table-only", "--format", "latex"])
    check_latex(result.stdout)
    assert sorted(run.iterdir()) == before
    for arguments, message in (
        (["--table-only", "--to", "x"], "--table-only writes nothing"),
        (["--table", str(other), "--table-only", "--format", "latx"], "did you mean 'latex'"),
        (["--format", "latex"], "is for --table-only"),
        ([str(run), "--table-only"], "one run, got 2"),
    ):
        error = CliRunner().invoke(app, ["report", str(run), *arguments]).exception
        assert isinstance(error, SpecError)
        assert message in str(error)
    other.write_text("columns: [{stage: measure, metric: psnr}]\nrows: {sse: Ours}\n")
    with pytest.raises(
        SpecError, match=r"'sse', which does not exist at rows.sse \(other\.yaml:2:8\); did you mean 'se'"
    ):
        render_table(run, table=other)


def test_a_damaged_table_does_not_keep_the_report_from_being_written(tmp_path):
    run = write_run(tmp_path / "run", {"columns": 3})
    assert build_report([run]) == [run / "report.html", run / "report.md"]
    assert "Could not be read: run.json: table" in (run / "report.md").read_text()
