"""``dfz score``."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console

from diffusability.core.cli.run_command import run_spec
from diffusability.core.engine.launched import launched_rank
from diffusability.core.errors import Problem, SpecError
from diffusability.core.planning.source import as_yaml
from diffusability.core.report.comparison import compare
from diffusability.core.report.pages.html_page import moved_page
from diffusability.core.report.tables.metric_table import Cell, metric_columns
from diffusability.core.run.folder_reader import Run, read_run
from diffusability.core.scoring.named_autoencoders import Named, check_named, named_autoencoders
from diffusability.core.scoring.scorecard_spec import STAGE, ScoreOptions, scorecard_spec
from diffusability.core.scoring.scorecard_table import scorecard_notes, scorecard_table
from diffusability.core.specs.run import folder_name


def score_autoencoders(
    references: Sequence[str],
    options: ScoreOptions,
    report: Path | None,
    num_ranks: int,
    runs: Path,
    json_file: Path | None = None,
    name: str | None = None,
    trust_code: bool = False,
) -> None:
    """Runs a spec that it makes, prints the scorecard, and writes it to ``report`` and ``json_file``.

    Raises:
        SpecError: something that was typed is wrong; cites what was typed.
    """
    try:
        folder_name("score" if name is None else name)
    except ValueError as error:
        raise SpecError(f"--name: {error}") from None
    autoencoders = named_autoencoders(references, trust_code)
    for named in autoencoders:
        check_named(named)
    spec = scorecard_spec(autoencoders, options, name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{spec['name']}.yaml"
        path.write_text(as_yaml(spec), encoding="utf-8")
        try:
            run_spec(path, [], None, [], num_ranks, runs, shows_results=False)
        except SpecError as error:
            raise _as_typed(error, autoencoders, options) from None
    launched = launched_rank()
    if launched is not None and (launched.rank != 0 or num_ranks > 1):
        return  # one process prints: the first rank, or the process that started the ranks
    root = runs / spec["name"]
    results: dict[str, Any] = json.loads((root / "results.json").read_text())["variants"]
    scores = {label: stages.get(STAGE, {}) for label, stages in results.items()}
    run = read_run(root)
    console = Console()
    console.print(scorecard_table(scores, _differences(run)))
    for note in scorecard_notes(scores):
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    for remark in compare([run]).remarks:
        console.print(remark, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if json_file is not None:
        content = scorecard_json(autoencoders, options, scores, run)
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(content, indent=2, default=str, allow_nan=False) + "\n", encoding="utf-8")
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        page = (root / "report.html").read_text(encoding="utf-8")
        report.write_text(moved_page(page, root, report.parent), encoding="utf-8")
    console.print(f"report: {report or root / 'report.html'}", highlight=False, soft_wrap=True)


def scorecard_json(
    autoencoders: Sequence[Named], options: ScoreOptions, scores: Mapping[str, Mapping[str, Any]], run: Run
) -> dict[str, Any]:
    """The scorecard for programs: what was typed, and of each autoencoder its remarks and its metrics."""
    return {
        "run": str(run.directory),
        "options": attrs.asdict(options),
        "versions": dict(run.versions),
        "autoencoders": {
            named.label: {
                "reference": named.reference,
                "spec": named.spec,
                "remarks": list(run.variants[named.label][STAGE].remarks),
                "metrics": scores[named.label],
            }
            for named in autoencoders
        },
    }


def _as_typed(error: SpecError, autoencoders: Sequence[Named], options: ScoreOptions) -> SpecError:
    """The same problems without places in the spec that was made here, which nobody has seen."""
    typed = " ".join(dict.fromkeys(named.reference for named in autoencoders))
    problems = []
    for problem in error.problems:
        of_data = problem.path.startswith("data")
        what = f"--data {options.data!r}" if of_data else f"dfz score {typed}"
        problems.append(Problem(f"{what}: {problem.message}", hint=problem.hint))
    return SpecError(list(dict.fromkeys(problems)))


def _differences(run: Run) -> dict[str, dict[str, Cell]]:
    """What the report says of each autoencoder's metrics, by label."""
    comparison = compare([run])
    columns = [column for column in metric_columns(comparison) if column.stage == STAGE]
    return {
        group.label: {column.metric: column.cells[place] for column in columns}
        for place, group in enumerate(comparison.groups)
    }
