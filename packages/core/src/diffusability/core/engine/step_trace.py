"""A trace of some training steps, to be opened in Perfetto or chrome://tracing."""

import os
from pathlib import Path
from types import TracebackType

import torch
from torch.profiler import ProfilerActivity, profile, schedule

#: Steps before the trace: allocations, autotuning and compilation happen in them.
WARMUP_STEPS = 3


class StepTrace:
    """A hook of the training loop that writes one trace of ``num_steps`` steps; nothing with ``num_steps`` 0.

    The file is ``rank-<rank>.trace.json`` in the given folder. A stage that ends before gives a shorter trace.
    """

    def __init__(self, directory: Path, rank: int, num_steps: int) -> None:
        self.path = directory / f"rank-{rank}.trace.json"
        self.num_steps = num_steps
        self._profiler: profile | None = None
        self._finished_steps = 0

    def __enter__(self) -> "StepTrace":
        if self.num_steps > 0:
            os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # it speaks of its own start and end as of errors
            cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self._profiler = profile(
                activities=[ProfilerActivity.CPU, *cuda],
                schedule=schedule(wait=WARMUP_STEPS - 1, warmup=1, active=self.num_steps, repeat=1),
                on_trace_ready=self._write,
                acc_events=True,
            )
            self._profiler.start()
        return self

    def __call__(self, done: int) -> None:
        """One more step is done."""
        if self._profiler is None:
            return
        self._profiler.step()
        self._finished_steps += 1
        if self._finished_steps == WARMUP_STEPS + self.num_steps:
            self._stop()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._profiler is not None:
            self._profiler.stop()
            self._profiler = None

    def _write(self, profiler: profile) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self.path))
