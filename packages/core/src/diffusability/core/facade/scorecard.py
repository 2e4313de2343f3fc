"""What a score returns: metrics as a table, as JSON, and in a notebook."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import attrs

from diffusability.core.contracts.evaluator import Curve, EvalResult
from diffusability.core.scoring.metric_groups import metric_groups
from diffusability.core.specs.metric_info import MetricInfo
from diffusability.core.stages.evaluation_results import results_json

_ARROWS = {True: "↑", False: "↓", None: ""}
_HEADING = ("metric", "better", "value")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Scorecard:
    """The metrics of one autoencoder: ``card["psnr"]`` is a number, ``card.curves["chop_off_curve"]`` a curve.

    Attributes:
        autoencoder: what it is called.
        results: every metric with its unit, spread, settings and note.
        remarks: what a reader must know before the numbers, such as which range the images' values were taken for.
    """

    autoencoder: str
    results: Sequence[EvalResult]
    remarks: Sequence[str] = ()

    def __getitem__(self, metric: str) -> float:
        try:
            return self.values[metric]
        except KeyError:
            raise KeyError(f"there is no number {metric!r}; there are: {', '.join(self.values)}") from None

    @property
    def values(self) -> Mapping[str, float]:
        """The metrics that are numbers, by name."""
        return {result.metric: result.value for result in self.results if result.value is not None}

    @property
    def curves(self) -> Mapping[str, Curve]:
        """The metrics that are curves, by name."""
        return {result.metric: result.curve for result in self.results if result.curve is not None}

    def table(self) -> str:
        """The numbers as text, grouped as by ``dfz score``, with the remarks below."""
        rows = [_HEADING, *(row for _, group in self._groups() for row in group)]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [f"diffusability scorecard of {self.autoencoder}", "", _line(_HEADING, widths)]
        for heading, group in self._groups():
            lines += ["", heading, *(_line(row, widths) for row in group)]
        return "\n".join([*lines, "", *self._notes()]).rstrip()

    def to_json(self, path: Path | str | None = None) -> dict[str, Any]:
        """Everything as plain data, the metrics as in ``results.json``; also written to a file where one is named."""
        content = {
            "autoencoder": self.autoencoder,
            "remarks": list(self.remarks),
            "metrics": results_json(self.results),
        }
        if path is not None:
            Path(path).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        return content

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        meanings = {_label(result): _info(result).meaning for result in self.results}
        parts = ["".join(f"<th style='text-align:left'>{escape(name)}</th>" for name in _HEADING)]
        for heading, group in self._groups():
            parts.append(f"<td colspan='3' style='text-align:left'><b>{escape(heading)}</b></td>")
            for label, arrow, value in group:
                title = f" title='{escape(meanings.get(label, ''), quote=True)}'"
                parts.append(
                    f"<td style='text-align:left'{title}>{escape(label)}</td><td>{arrow}</td><td>{escape(value)}</td>"
                )
        rows = "".join(f"<tr>{part}</tr>" for part in parts)
        notes = "".join(f"<div><small>{escape(note)}</small></div>" for note in self._notes())
        return f"<table><caption>{escape(self.autoencoder)}</caption>{rows}</table>{notes}"

    def _groups(self) -> list[tuple[str, list[tuple[str, str, str]]]]:
        numbers = {result.metric: result for result in self.results if result.value is not None}
        groups = metric_groups({metric: _info(result) for metric, result in numbers.items()})
        return [(heading, [_row(numbers[metric]) for metric in metrics]) for heading, metrics in groups]

    def _notes(self) -> list[str]:
        concerned: dict[str, list[str]] = {}
        for result in self.results:
            if result.note:
                concerned.setdefault(result.note, []).append(result.metric)
        return [*self.remarks, *(f"{note} ({', '.join(metrics)})" for note, metrics in concerned.items())]


def _info(result: EvalResult) -> MetricInfo:
    return result.info or MetricInfo(label=result.metric)


def _label(result: EvalResult) -> str:
    return _info(result).label + (f" ({result.unit})" if result.unit else "")


def _row(result: EvalResult) -> tuple[str, str, str]:
    spread = "" if result.spread is None else f" ±{result.spread:.1g}"
    return _label(result), _ARROWS[result.higher_is_better], f"{result.value:.4g}{spread}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return f"{row[0]:<{widths[0]}}  {row[1]:^{widths[1]}}  {row[2]}".rstrip()
