"""The contract of an experiment tracker."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from diffusability.core.contracts.from_spec import FromSpec


class Tracker(FromSpec, ABC):
    """Told of every line of metrics on rank 0; ``metrics.jsonl`` is written besides and always."""

    @abstractmethod
    def start(self, stage: str, directory: Path, config: Mapping[str, object]) -> None:
        """A stage begins or resumes in that folder."""

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of metrics."""

    def log_image(self, step: int, name: str, path: Path) -> None:
        """A grid of images was written to that file."""

    def finish(self) -> None:
        """The stage has ended or stopped."""
