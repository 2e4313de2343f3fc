"""Metrics in Weights & Biases."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusability.core.contracts.tracker import Tracker
from diffusability.core.errors import TrainingError
from diffusability.core.trackers.run_identity import run_id_of
from diffusability.core.trackers.specs import WandbSpec


class WandbTracker(Tracker):
    """One run for each stage. Steps that an interrupted run had logged already stay as they are: they are equal."""

    def __init__(self, spec: WandbSpec) -> None:
        self._spec = spec
        self._run: Any = None

    def start(self, stage: str, directory: Path, config: Mapping[str, object]) -> None:
        import wandb

        try:
            self._run = wandb.init(
                project=self._spec.project,
                entity=self._spec.entity,
                mode=self._spec.mode,
                name=self._spec.name or stage,
                tags=list(self._spec.tags),
                config=dict(config),
                dir=str(directory),
                id=run_id_of(directory, "wandb"),
                resume="allow" if self._spec.mode == "online" else None,
                settings=wandb.Settings(console="off", silent=True),
            )
        except wandb.Error as error:
            raise TrainingError(
                f"tracker 'wandb' could not start: {error}; log in with 'wandb login', or set mode: offline"
            ) from error

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({name: value for name, value in metrics.items() if name != "step"}, step=step)

    def log_image(self, step: int, name: str, path: Path) -> None:
        import wandb

        self._run.log({name: wandb.Image(str(path))}, step=step)

    def finish(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None
