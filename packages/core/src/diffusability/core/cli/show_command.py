"""``dfz show`` and ``dfz runs``."""

from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from diffusability.core.errors import SpecError
from diffusability.core.report.tables.results_table import print_results, results_text
from diffusability.core.run.run_record import readable_record


def show_results(run: Path, form: str) -> None:
    """Prints the results of a run, for a terminal or in another format."""
    if form == "table":
        console = Console()
        print_results(console, run)
        console.print(f"report: {run / 'report.html'}", highlight=False, soft_wrap=True)
        return
    typer.echo(results_text(run, form), nl=False)


def list_runs(runs: Path) -> None:
    """Prints the runs below a folder, the latest last: what they are of, how far they are, and the command.

    Raises:
        SpecError: there is no such folder.
    """
    if not runs.is_dir():
        raise SpecError(f"there is no folder {str(runs)!r}; expected the one in which runs are kept (--runs)")
    records = [(folder, record) for folder in runs.iterdir() if (record := readable_record(folder))]
    console = Console()
    if not records:
        console.print(f"no runs in {str(runs)!r}", markup=False, highlight=False)
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("run", "began", "stages done", "variants", "made by"):
        table.add_column(column, overflow="fold")
    for folder, record in sorted(records, key=lambda pair: str(pair[1].get("created"))):
        variants: dict[str, Any] = record.get("variants") or {}
        stages = {
            stage["directory"]: stage["status"]
            for stages_of_variant in variants.values()
            for stage in stages_of_variant.values()
        }
        done = f"{list(stages.values()).count('done')} of {len(stages)}"
        cells = (folder.name, str(record.get("created", ""))[:16], done, ", ".join(variants), record.get("command", ""))
        table.add_row(*(str(cell).replace("[", r"\[") for cell in cells))
    console.print(table)
