"""``dfz score``."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from diffusability.core.cli.run_command import run_spec
from diffusability.core.engine.launched import launched_rank
from diffusability.core.report.comparison import compare
from diffusability.core.report.metric_table import Cell, metric_columns
from diffusability.core.report.run_folder import read_run
from diffusability.core.score.references import named_autoencoders
from diffusability.core.score.scorecard_spec import STAGE, ScoreOptions, scorecard_spec
from diffusability.core.score.scorecard_table import scorecard_notes, scorecard_table


def score_autoencoders(
    references: Sequence[str], options: ScoreOptions, report: Path | None, num_ranks: int, runs: Path
) -> None:
    """Writes a spec, runs it, prints the scorecard, and copies the report to ``report``."""
    spec = scorecard_spec(named_autoencoders(references), options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{spec['name']}.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False, allow_unicode=True), encoding="utf-8")
        run_spec(path, [], None, [], num_ranks, runs)
    launched = launched_rank()
    if launched is not None and (launched.rank != 0 or num_ranks > 1):
        return  # one process prints: the first rank, or the process that started the ranks
    root = runs / spec["name"]
    results: dict[str, Any] = json.loads((root / "results.json").read_text())["variants"]
    console = Console()
    scores = {label: stages.get(STAGE, {}) for label, stages in results.items()}
    console.print(scorecard_table(scores, _differences(root)))
    for note in scorecard_notes(scores):
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / "report.html", report)
        console.print(f"report: {report}", highlight=False, soft_wrap=True)


def _differences(root: Path) -> dict[str, dict[str, Cell]]:
    """What the report says of each autoencoder's metrics, by label."""
    comparison = compare([read_run(root)])
    columns = [column for column in metric_columns(comparison) if column.stage == STAGE]
    return {
        group.label: {column.metric: column.cells[place] for column in columns}
        for place, group in enumerate(comparison.groups)
    }
