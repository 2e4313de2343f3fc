"""Metrics as TensorBoard event files."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diffusability.core.contracts.tracker import Tracker
from diffusability.core.planning.source import as_yaml
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.trackers.specs import TensorBoardSpec

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardTracker(Tracker):
    """One curve for each name in a line of metrics.

    The first line after a resume purges what an interrupted run wrote from that step on, as ``metrics.jsonl`` is cut.
    """

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._config: Mapping[str, object] = {}
        self._writer: SummaryWriter | None = None

    @classmethod
    def from_spec(cls, spec: TensorBoardSpec, context: BuildContext) -> "TensorBoardTracker":
        return cls()

    def start(self, stage: str, directory: Path, config: Mapping[str, object]) -> None:
        self._directory = directory / "tensorboard"
        self._config = config

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        writer = self._opened(step)
        for name, value in metrics.items():
            if name != "step":
                writer.add_scalar(name, value, step)
        writer.flush()

    def log_image(self, step: int, name: str, path: Path) -> None:
        with Image.open(path) as image:
            self._opened(step).add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _opened(self, step: int) -> "SummaryWriter":
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            assert self._directory is not None
            self._writer = SummaryWriter(str(self._directory), purge_step=step)
            text = as_yaml(dict(self._config), allow_unicode=False)
            self._writer.add_text("resolved", f"```yaml\n{text}```", step)
        return self._writer
