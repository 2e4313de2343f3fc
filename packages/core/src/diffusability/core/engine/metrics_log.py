"""``metrics.jsonl``: one JSON object a line, cut back on resume to what the checkpoint knows."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.tracker import Tracker
from diffusability.core.reading import parsed_json
from diffusability.core.writing import replacing


class MetricsLog:
    """Appends lines of metrics, in which not-finite numbers become null, and tells the trackers of each."""

    def __init__(self, path: Path, trackers: Sequence[Tracker] = ()) -> None:
        self.path = path
        self.trackers = trackers

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines so far; a last line that a kill cut short is left out."""
        if not self.path.is_file():
            return
        with self.path.open() as file:
            for line in file:
                try:
                    yield parsed_json(line)
                except json.JSONDecodeError:
                    return

    def cut_after(self, step: int) -> None:
        """Drops lines of later steps, which a resumed run will write again."""
        kept = [line for line in self.lines() if line["step"] <= step]
        if self.path.is_file():
            with replacing(self.path) as partial:
                partial.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in kept))

    def write(self, metrics: Mapping[str, float]) -> None:
        """Appends one line, which has a ``step``."""
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with self.path.open("a") as file:
            file.write(json.dumps(finite, allow_nan=False) + "\n")
        for tracker in self.trackers:
            tracker.log(int(metrics["step"]), metrics)

    def show(self, step: int, name: str, path: Path) -> None:
        """Tells the trackers of a grid of images."""
        for tracker in self.trackers:
            tracker.log_image(step, name, path)


@attrs.frozen(eq=False)
class Observed:
    """Numbers of a micro batch by name, still on the device.

    Attributes:
        names: of the numbers.
        values: the numbers, of shape (names).
    """

    names: Sequence[str]
    values: Float[Tensor, " names"]

    @staticmethod
    def of_tensors(named: Mapping[str, Tensor]) -> "Observed":
        """Of tensors with one element each."""
        return Observed(tuple(named), torch.stack([value.detach().float() for value in named.values()]))


class RunningMeans:
    """Means of named numbers since the last reset; part of a checkpoint, so that a resumed log is the same.

    Numbers that are still on a device are kept there until they are asked for: ``settle`` fetches all at once.
    """

    def __init__(self, state: Mapping[str, tuple[float, int]] | None = None) -> None:
        self.sums: dict[str, tuple[float, int]] = {name: (s, n) for name, (s, n) in (state or {}).items()}
        self._unread: list[tuple[Observed, Tensor | None]] = []

    def record(self, observed: Observed, counts: bool | Tensor = True) -> None:
        """Takes numbers into account that are fetched later, unless ``counts`` turns out to be false."""
        if isinstance(counts, Tensor):
            self._unread.append((observed, counts))
        elif counts:
            self._unread.append((observed, None))

    def settle(self) -> None:
        """Fetches what was recorded, in one transfer, and adds it in the order in which it was recorded."""
        unread, self._unread = self._unread, []
        if not unread:
            return
        parts = [part for seen, counts in unread for part in (seen.values, *([] if counts is None else [counts[None]]))]
        fetched = iter(torch.cat([part.float() for part in parts]).tolist())
        for observed, counts in unread:
            values = {name: next(fetched) for name in observed.names}
            if counts is None or next(fetched):
                self.add(values)

    def add(self, values: Mapping[str, float]) -> None:
        """Takes one more observation of each name into account."""
        for name, value in values.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + value, count + 1)

    @staticmethod
    def means(parts: Iterable["RunningMeans"]) -> dict[str, float]:
        """The means over several ranks. Not every rank has seen every name: monitors may depend on the samples."""
        sums: dict[str, tuple[float, int]] = {}
        for part in parts:
            for name, (total, count) in part.sums.items():
                before = sums.get(name, (0.0, 0))
                sums[name] = (before[0] + total, before[1] + count)
        return {name: total / count for name, (total, count) in sums.items()}

    def reset(self) -> None:
        """Forgets everything."""
        self.sums = {}
        self._unread = []
