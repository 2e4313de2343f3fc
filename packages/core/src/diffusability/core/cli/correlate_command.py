"""``dfz correlate``."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diffusability.core.report.correlation import write_correlation


def show_correlation(run_folders: Sequence[Path], target: str, output: Path | None) -> None:
    """Writes the correlation's files and prints its table."""
    predictors = write_correlation(run_folders, target, output)
    label, num_variants = escape(predictors[0].target_label), predictors[0].correlation.num_pairs
    table = Table(title=f"rank correlation with {label} over {num_variants} variants")
    table.add_column("predictor")
    for column in ("Spearman", "95% interval", "expected"):
        table.add_column(column, justify="right")
    for predictor in predictors:
        interval = f"{predictor.correlation.low:+.2f} to {predictor.correlation.high:+.2f}"
        sign = {1: "+", -1: "-", None: ""}[predictor.expected]
        table.add_row(escape(predictor.label), f"{predictor.correlation.value:+.2f}", interval, sign)
    console = Console()
    console.print(table)
    folder = output if output is not None else run_folders[0]
    console.print(f"written: {folder / 'correlation.md'}", highlight=False, soft_wrap=True)
