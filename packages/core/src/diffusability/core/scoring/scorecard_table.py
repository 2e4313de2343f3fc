"""The scorecard as a table: a row for each metric, a column for each autoencoder."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from diffusability.core.report.tables.metric_table import Cell
from diffusability.core.report.tables.result_notes import SEPARATOR
from diffusability.core.run.metric_names import named_info
from diffusability.core.scoring.metric_groups import metric_groups
from diffusability.core.specs.metric_info import MetricInfo, read_metric_info


def scorecard_table(
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]],
    differences: Mapping[str, Mapping[str, Cell]] | None = None,
) -> Table:
    """The table of ``{label: {metric: entry of results.json}}``; the best of each row is bold.

    ``differences`` holds, by label and metric, cells of the report: those of all but the first autoencoder show the
    difference from it and its 95% interval, green or red where the interval excludes 0 and dim elsewhere.
    The columns of autoencoders with random weights say so.
    """
    table = Table(title="diffusability scorecard")
    table.add_column("metric")
    table.add_column("better", justify="center")
    for label, metrics in scores.items():
        random = any("random_weights" in entry.get("spec", {}) for entry in metrics.values())
        table.add_column(f"{label}\n[yellow]random weights[/yellow]" if random else label, justify="right")
    names = list(
        dict.fromkeys(name for metrics in scores.values() for name, entry in metrics.items() if "value" in entry)
    )
    infos = {name: _info(name, [metrics[name] for metrics in scores.values() if name in metrics]) for name in names}
    for heading, rows in metric_groups(infos):
        table.add_section()
        table.add_row(f"[dim]{escape(heading)}[/dim]")
        for name in rows:
            cells = [(differences or {}).get(label, {}).get(name) for label in scores]
            table.add_row(*_row(infos[name], [metrics.get(name) for metrics in scores.values()], cells))
    if differences:
        table.caption = _caption(next(iter(scores)), differences)
    return table


def scorecard_notes(scores: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """What the results say beside their numbers, a line for each autoencoder and note, with the metrics concerned."""
    lines = []
    for label, metrics in scores.items():
        concerned: dict[str, list[str]] = {}
        for name, entry in metrics.items():
            for note in str(entry.get("note") or "").split(SEPARATOR) if entry.get("note") else []:
                concerned.setdefault(note, []).append(name)
        lines += [f"{label}: {note} ({', '.join(names)})" for note, names in concerned.items()]
    return lines


def _info(name: str, entries: Sequence[Mapping[str, Any]]) -> MetricInfo:
    written = (read_metric_info(entry.get("info")) for entry in entries)
    return next((info for info in written if info is not None), None) or named_info(name)


def _caption(baseline: str, differences: Mapping[str, Mapping[str, Cell]]) -> str:
    changes = [cell.difference for cells in differences.values() for cell in cells.values()]
    methods = dict.fromkeys(change.method for change in changes if change is not None and change.method)
    return f"below a number: difference from {baseline} and its 95% interval ({'; '.join(methods)})" if methods else ""


def _row(info: MetricInfo, entries: list[Mapping[str, Any] | None], cells: list[Cell | None]) -> list[str]:
    present = [entry for entry in entries if entry is not None]
    direction = present[0].get("higher_is_better")
    values = [entry["value"] for entry in present]
    best = None
    if direction is not None and len(values) > 1:
        best = max(values) if direction else min(values)
    unit = present[0].get("unit")
    arrow = {True: "↑", False: "↓", None: ""}[direction]
    label = escape(info.label) + (f" ({unit})" if unit else "")
    texts = [_cell(entry, best) + _difference(cell) for entry, cell in zip(entries, cells, strict=True)]
    return [label, arrow, *texts]


def _difference(cell: Cell | None) -> str:
    if cell is None or not cell.delta:
        return ""
    style = {True: "green", False: "red", None: "dim"}[cell.improves]
    return f"\n[{style}]{escape(f'{cell.delta} {cell.interval}'.strip())}[/{style}]"


def _cell(entry: Mapping[str, Any] | None, best: float | None) -> str:
    if entry is None:
        return "-"
    text = f"{entry['value']:.4g}"
    if entry.get("spread") is not None:
        text += f" [dim]±{entry['spread']:.1g}[/dim]"
    return f"[bold]{text}[/bold]" if best is not None and entry["value"] == best else text
