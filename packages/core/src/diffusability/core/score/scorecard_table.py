"""The scorecard as a table: a row for each metric, a column for each autoencoder."""

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from diffusability.core.report.tables.metric_names import metric_label
from diffusability.core.report.tables.metric_table import Cell
from diffusability.core.report.tables.result_notes import SEPARATOR

#: Order and headings; metrics that are not named here follow at the end.
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("reconstruction", ("psnr", "worst_psnr", "ssim", "ms_ssim", "lpips", "st_lpips", "kl_per_dim")),
    ("spectrum", ("high_frequency_share", "spectral_gap", "sec", "spectral_slope", "chop_off_area")),
    ("velocity", ("viv", "viv_unconditional", "trajectory_straightness")),
    ("structure", ("lds", "cds", "srss", "lnc", "density_cv", "density_gini", "density_entropy")),
    (
        "equivariance",
        (
            "scale_equivariance_error",
            "rotation_equivariance_error",
            "flip_equivariance_error",
            "shift_equivariance_error",
            "interpolation_smoothness",
        ),
    ),
)


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
    raw = tuple(name for name in names if name.endswith("_raw"))
    named = {name for _, group in GROUPS for name in group}
    further = tuple(name for name in names if name not in named and name not in raw)
    groups = [*GROUPS, ("further", further), ("of raw latents", raw)]
    for heading, group in groups:
        rows = [name for name in group if name in names]
        if not rows:
            continue
        table.add_section()
        table.add_row(f"[dim]{heading}[/dim]")
        for name in rows:
            cells = [(differences or {}).get(label, {}).get(name) for label in scores]
            table.add_row(*_row(name, [metrics.get(name) for metrics in scores.values()], cells))
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


def _caption(baseline: str, differences: Mapping[str, Mapping[str, Cell]]) -> str:
    found = [cell.difference for cells in differences.values() for cell in cells.values()]
    methods = dict.fromkeys(one.method for one in found if one is not None and one.method)
    return f"below a number: difference from {baseline} and its 95% interval ({'; '.join(methods)})" if methods else ""


def _row(name: str, entries: list[Mapping[str, Any] | None], cells: list[Cell | None]) -> list[str]:
    present = [entry for entry in entries if entry is not None]
    direction = present[0].get("higher_is_better")
    values = [entry["value"] for entry in present]
    best = None
    if direction is not None and len(values) > 1:
        best = max(values) if direction else min(values)
    unit = present[0].get("unit")
    arrow = {True: "↑", False: "↓", None: ""}[direction]
    label = metric_label(name) + (f" ({unit})" if unit else "")
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
