"""``dfz compare``."""

import json
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.errors import SpecError
from diffusability.core.run.progress import StageProgress
from diffusability.core.run.waiting_threads import available_cores
from diffusability.core.scoring.comparison import Comparison, ComparisonOptions, compare_images
from diffusability.core.stages.evaluation_results import notes, results_json

#: Loading processes that keep an accelerator busy.
_MOST_WORKERS = 8


def chosen_device(name: str | None) -> str:
    """The device of that name. Raises SpecError when there is none."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise SpecError(f"--device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return name


def chosen_workers(asked: int | None, device: str) -> int:
    """How many loading processes; by default none on a CPU, whose cores the networks need themselves."""
    if asked is not None:
        return asked
    return 0 if device == "cpu" else min(_MOST_WORKERS, available_cores())


def show_comparison(options: ComparisonOptions, json_file: Path | None) -> None:
    """Compares two sets of images, prints the table, and writes it to ``json_file`` for programs."""
    console = Console()
    with StageProgress(console, "compare", 1) as progress:
        comparison = compare_images(options, lambda done, total: progress.update(done, total=total))
    console.print(_table(comparison))
    for note in notes(comparison.results):
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    for name, reason in comparison.left_out.items():
        console.print(f"left out: {name}: {reason}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(_content(comparison, options), indent=2, default=str, allow_nan=False)
        json_file.write_text(content + "\n", encoding="utf-8")
        console.print(f"written: {json_file}", highlight=False, soft_wrap=True)


def _table(comparison: Comparison) -> Table:
    real = "statistics of real images" if comparison.num_real is None else f"{comparison.num_real:,} real images"
    height, width = comparison.size
    table = Table(title=f"{real}, {comparison.num_generated:,} generated ones, {height}x{width} pixels")
    table.add_column("metric")
    for column in ("value", "spread", "better"):
        table.add_column(column, justify="right")
    for result in sorted(comparison.results, key=_rank):
        if result.value is None:
            continue
        arrow = {True: "higher", False: "lower", None: ""}[result.higher_is_better]
        spread = "" if result.spread is None else f"± {result.spread:.3g}"
        label = result.metric if result.info is None else result.info.label
        unit = f" ({result.unit})" if result.unit else ""
        table.add_row(escape(label + unit), f"{result.value:.5g}", spread, arrow)
    return table


def _rank(result: EvalResult) -> float:
    return float("inf") if result.info is None else result.info.order


def _content(comparison: Comparison, options: ComparisonOptions) -> dict[str, Any]:
    return {
        "options": attrs.asdict(options),
        "num_real": comparison.num_real,
        "num_generated": comparison.num_generated,
        "image_size": list(comparison.size),
        "left_out": dict(comparison.left_out),
        "metrics": results_json(comparison.results),
    }
