"""Metrics in Trackio, Hugging Face's tracker: a local database with a dashboard, or a Space."""

from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

from diffusability.core.contracts.tracker import Tracker
from diffusability.core.errors import TrainingError
from diffusability.core.trackers.run_identity import run_id_of
from diffusability.core.trackers.specs import TrackioSpec


class TrackioTracker(Tracker):
    """One run for each stage, named by the stage and its identity; a stage that resumes continues it.

    Steps that an interrupted run had logged already are logged again, with equal values.
    """

    def __init__(self, spec: TrackioSpec) -> None:
        self._spec = spec
        self._run: Any = None

    def start(self, stage: str, directory: Path, config: Mapping[str, object]) -> None:
        import trackio

        try:
            with redirect_stdout(StringIO()):
                self._run = trackio.init(
                    self._spec.project,
                    name=f"{self._spec.name or stage}-{run_id_of(directory, 'trackio')}",
                    space_id=self._spec.space_id,
                    config=dict(config),
                    resume="allow",
                    embed=False,
                    auto_log_gpu=False,
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise TrainingError(
                f"tracker 'trackio' could not start: {error}; without 'space_id' it is local"
            ) from error

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log({name: value for name, value in metrics.items() if name != "step"}, step=step)

    def log_image(self, step: int, name: str, path: Path) -> None:
        import trackio

        self._run.log({name: trackio.Image(str(path))}, step=step)

    def finish(self) -> None:
        if self._run is None:
            return
        import trackio

        with redirect_stdout(StringIO()), suppress(RuntimeError):
            self._run.finish()
            trackio.finish()  # forgets the run, which would be ended once more when the process exits
        self._run = None
