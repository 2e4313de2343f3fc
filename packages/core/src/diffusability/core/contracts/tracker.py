"""The contract of an experiment tracker."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path


class Tracker(ABC):
    """Told of every line of metrics on rank 0; ``metrics.jsonl`` is written besides and always."""

    @abstractmethod
    def start(self, stage: str, directory: Path, config: Mapping[str, object]) -> None:
        """A stage begins or resumes in that folder."""

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of metrics."""

    def log_image(self, step: int, name: str, path: Path) -> None:  # noqa: B027 - many trackers keep numbers only
        """A grid of images was written to that file."""

    def finish(self) -> None:  # noqa: B027 - most trackers have nothing to finish
        """The stage has ended or stopped."""
