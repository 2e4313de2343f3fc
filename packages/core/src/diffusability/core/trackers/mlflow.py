"""Metrics in MLflow."""

import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffusability.core.contracts.tracker import Tracker
from diffusability.core.errors import TrainingError
from diffusability.core.planning.source import as_yaml
from diffusability.core.trackers.run_identity import identity_file
from diffusability.core.trackers.specs import MLflowSpec

#: What MLflow does not allow in names of metrics, parameters and images.
_NOT_ALLOWED = re.compile(r"[^\w\-. /]")
_MOST_PARAMETERS = 100
_LONGEST_VALUE = 500


class MLflowTracker(Tracker):
    """One run for each stage; a stage that resumes continues it.

    Steps that an interrupted run had logged already are logged again, with equal values. What the server does not take
    is reported on the console and does not end the training.
    """

    def __init__(self, spec: MLflowSpec) -> None:
        self._spec = spec
        self._client: Any = None
        self._run_id = ""

    def start(self, stage: str, directory: Path, config: Mapping[str, object]) -> None:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        path = identity_file(directory, "mlflow")
        try:
            self._client = MlflowClient(tracking_uri=self._spec.tracking_uri)
            if path.is_file():
                self._run_id = path.read_text().strip()
                self._client.update_run(self._run_id, status="RUNNING")
            else:
                self._run_id = self._create(self._spec.name or stage, config)
                path.write_text(self._run_id + "\n")
        except (MlflowException, OSError) as error:
            raise TrainingError(
                f"tracker 'mlflow' could not start: {error}; see 'tracking_uri' (default: MLFLOW_TRACKING_URI)"
                + (f", or remove {str(path)!r} to begin a new run" if path.is_file() else "")
            ) from error

    def _create(self, name: str, config: Mapping[str, object]) -> str:
        from mlflow.entities import Param

        experiment = self._client.get_experiment_by_name(self._spec.experiment)
        number = experiment.experiment_id if experiment else self._client.create_experiment(self._spec.experiment)
        run_id = str(self._client.create_run(number, run_name=name, tags=self._spec.tags).info.run_id)
        parameters = [Param(_allowed(key), str(value)[:_LONGEST_VALUE]) for key, value in _leaves(config)]
        for first in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(run_id, params=parameters[first : first + _MOST_PARAMETERS])
        self._client.log_text(run_id, as_yaml(dict(config), allow_unicode=False), "resolved.yaml")
        return run_id

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        now = int(time.time() * 1000)
        values = [Metric(_allowed(name), value, now, step) for name, value in metrics.items() if name != "step"]
        try:
            self._client.log_batch(self._run_id, metrics=values)
        except MlflowException as error:
            _report(step, error)

    def log_image(self, step: int, name: str, path: Path) -> None:
        from mlflow.exceptions import MlflowException
        from PIL import Image

        try:
            with Image.open(path) as image:
                self._client.log_image(self._run_id, image.convert("RGB"), key=_allowed(name), step=step)
        except MlflowException as error:
            _report(step, error)

    def finish(self) -> None:
        from mlflow.exceptions import MlflowException

        if self._client is not None:
            try:
                self._client.set_terminated(self._run_id)
            except MlflowException as error:
                print(f"tracker 'mlflow' could not end its run: {error}", file=sys.stderr)
            self._client = None


def _report(step: int, error: Exception) -> None:
    print(f"tracker 'mlflow' did not take step {step} (metrics.jsonl holds it): {error}", file=sys.stderr)


def _allowed(name: str) -> str:
    return _NOT_ALLOWED.sub("_", name)


def _leaves(config: object, place: str = "") -> Iterator[tuple[str, object]]:
    """The values of a nested configuration with dotted names, as ``--set`` takes them."""
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            yield from _leaves(value, f"{place}.{key}" if place else str(key))
    elif isinstance(config, list) and config and any(isinstance(value, Mapping) for value in config):
        for number, value in enumerate(config):
            yield from _leaves(value, f"{place}.{number}")
    else:
        yield place, config
