"""``dfz run --jobs``: runs variants in parallel, each in a process of its own that this one starts and waits for."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

import attrs
from rich.console import Console

from diffusability.core.engine.stopping import StopRequest
from diffusability.core.errors import DiffusabilityError, SpecError, StoppedOnRequest
from diffusability.core.planning.job_division import VARIABLE, Job, jobs_of
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.report.tables.results_table import print_results
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.run.waiting_threads import available_cores
from diffusability.core.stages.overview import Overview

_PERIOD_S = 0.2


class JobFailed(DiffusabilityError):
    """A job ended with an error, which it has printed itself unless it was killed."""


def stop_with_parent() -> None:
    """Asks the system, where it can, to send this process a SIGTERM when the one that started it is killed."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def gpus_of_slots(num_jobs: int, num_ranks: int, gpus: Sequence[str]) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each of ``num_jobs`` slots; None where there are no GPUs.

    Every rank of a job has a GPU of its own; jobs of one rank share GPUs when there are more jobs than GPUs.

    Raises:
        SpecError: there are too few for jobs of several ranks.
    """
    if not gpus:
        return [None] * num_jobs
    if num_ranks > 1 and num_jobs * num_ranks > len(gpus):
        raise SpecError(
            f"{num_jobs} jobs of {num_ranks} ranks need {num_jobs * num_ranks} GPUs, but {len(gpus)} can be seen here;"
            " take fewer of either"
        )
    first = [slot * num_ranks % len(gpus) for slot in range(num_jobs)]
    return [",".join(gpus[start : start + num_ranks]) for start in first]


def _visible_gpus() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu.strip() for gpu in named.split(",") if gpu.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


@attrs.define(eq=False)
class _Running:
    """A job at work."""

    job: Job
    process: "subprocess.Popen[str]"
    reader: threading.Thread
    slot: int
    stage: PlannedStage | None = None


class JobProcesses:
    """Runs the jobs of a plan, a number of them at a time."""

    def __init__(
        self, overview: Overview, num_jobs: int, num_ranks: int, console: Console, keep_going: bool = False
    ) -> None:
        """Assigns GPUs to jobs; starts nothing yet.

        Args:
            overview: that of the run; only this process writes it.
            num_jobs: how many at a time.
            num_ranks: local ranks of each.
            console: for messages.
            keep_going: whether jobs that do not depend on a failed one run to their end.

        Raises:
            SpecError: there are too few GPUs.
        """
        self._overview = overview
        self._console = console
        self._gpus = gpus_of_slots(num_jobs, num_ranks, _visible_gpus())
        self._num_ranks = num_ranks
        self._keep_going = keep_going
        self._running: list[_Running] = []
        self._failed: dict[str, JobFailed] = {}
        self._left_out: list[Job] = []
        self._lock = -1

    @property
    def _folder(self) -> RunFolder:
        return self._overview.folder

    def run(self, stages: Sequence[PlannedStage], lock: int) -> None:
        """Runs the stages that are not done, and writes the report.

        On a signal, all jobs save their state and no further job is started. The same happens when a job fails, unless
        ``keep_going`` is set: then only the jobs that depend on the failed one are left out.

        Args:
            stages: in the order in which they would run one by one.
            lock: file descriptor of the folder's lock, which jobs inherit.

        Raises:
            JobFailed: a job ended with an error or was killed. Its exit code is that of the first job that failed.
            StoppedOnRequest: this process or a job received a signal.
        """
        self._lock = lock
        waiting = self._unfinished(stages)
        stop = StopRequest()
        ending: DiffusabilityError | None = None
        asked = False
        with stop.listening():
            try:
                while True:
                    if stop and ending is None:
                        ending = _stopped(str(stop.signal_name))
                    if ending is None:
                        self._start(waiting)
                    elif not asked:
                        asked = True
                        self._ask_to_stop()
                    if not self._running:
                        break
                    time.sleep(_PERIOD_S)
                    for job, problem in self._look_after(asked):
                        if self._keep_going and isinstance(problem, JobFailed):
                            self._go_on_without(job, problem, waiting)
                        else:
                            ending = ending or problem
            finally:
                for running in self._running:
                    running.process.kill()
                self._overview.report()
        if ending is not None:
            raise ending
        if self._failed:
            raise _failure_of_all(self._failed, self._left_out)
        print_results(self._console, self._folder.root)
        self._console.print(f"report: {self._folder.root / 'report.html'}", highlight=False, soft_wrap=True)

    def _unfinished(self, stages: Sequence[PlannedStage]) -> list[Job]:
        """The jobs that have something left to do; prints which were done before."""
        jobs = jobs_of(stages)
        done = [job for job in jobs if all(map(self._folder.is_done, job.stages))]
        for job in done:
            self._console.print(f"{job.name}: done before", markup=False, highlight=False)
        return [job for job in jobs if job not in done]

    def _start(self, waiting: list[Job]) -> None:
        """Starts jobs whose inputs are ready, as long as a slot is free, and removes them from the list."""
        slots = sorted(set(range(len(self._gpus))) - {running.slot for running in self._running})
        unfinished = [*waiting, *(running.job for running in self._running)]
        left = {stage.directory_name for job in unfinished for stage in job.stages if not self._folder.is_done(stage)}
        starting = [job for job in waiting if not job.needs & left][: len(slots)]
        at_once = len(self._running) + len(starting)
        for job in starting:
            waiting.remove(job)
            threads = max(1, available_cores() // (at_once * self._num_ranks))
            self._running.append(self._started(job, slots.pop(0), threads))

    def _started(self, job: Job, slot: int, threads: int) -> _Running:
        environment = os.environ | {
            VARIABLE: " ".join(stage.directory_name for stage in job.stages),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
            "PYTHONUNBUFFERED": "1",
        }
        gpus = self._gpus[slot]
        process = subprocess.Popen(
            [sys.executable, "-m", "diffusability.core.cli", *sys.argv[1:]],
            env=environment if gpus is None else environment | {"CUDA_VISIBLE_DEVICES": gpus},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=[self._lock],
        )
        assert process.stdout is not None
        reader = threading.Thread(target=self._repeat, args=(job.name, process.stdout), daemon=True)
        reader.start()
        running = _Running(job=job, process=process, reader=reader, slot=slot)
        self._follow(running)
        return running

    def _repeat(self, name: str, lines: IO[str]) -> None:
        """Prints the output of a job, with its name before each line."""
        for line in lines:
            self._console.print(f"{name} | {line.rstrip()}", markup=False, highlight=False, soft_wrap=True)

    def _follow(self, running: _Running) -> None:
        """Updates the overview with the stage that a job has reached."""
        stage = next((stage for stage in running.job.stages if not self._folder.is_done(stage)), None)
        if stage is running.stage:
            return
        if running.stage is not None:
            self._overview.finish(running.stage)
        if stage is not None:
            self._overview.begin(stage)
        running.stage = stage

    def _ask_to_stop(self) -> None:
        for running in self._running:
            running.process.send_signal(signal.SIGTERM)

    def _look_after(self, asked: bool) -> list[tuple[Job, DiffusabilityError]]:
        """Removes the jobs that have ended; returns those that failed or were stopped, each with its error."""
        problems: list[tuple[Job, DiffusabilityError]] = []
        for running in list(self._running):
            code = running.process.poll()
            self._follow(running)
            if code is None:
                continue
            running.reader.join()
            self._follow(running)
            self._running.remove(running)
            if running.stage is None:
                continue
            saved = code == StoppedOnRequest.exit_code or (asked and code in (-signal.SIGTERM, 130))
            self._overview.end(running.stage, "stopped" if saved else "failed")
            after = "the others continue" if self._keep_going else "the others have saved; the same command resumes"
            problem = _stopped("a signal to a job") if saved else _failure(running.job.name, code, after)
            problems.append((running.job, problem))
        return problems

    def _go_on_without(self, failed: Job, failure: JobFailed, waiting: list[Job]) -> None:
        """Removes from the list the jobs that depend on a failed one, directly or through others."""
        self._failed[failed.name] = failure
        missing = {stage.directory_name for stage in failed.stages if not self._folder.is_done(stage)}
        while blocked := [job for job in waiting if job.needs & missing]:
            for job in blocked:
                waiting.remove(job)
                missing |= {stage.directory_name for stage in job.stages}
            self._left_out += blocked
        self._console.print(str(failure), style="yellow", markup=False, highlight=False, soft_wrap=True)


def _stopped(cause: str) -> StoppedOnRequest:
    return StoppedOnRequest(f"stopped on {cause}; the jobs have saved what they were at; the same command resumes")


def _failure(name: str, code: int, after: str) -> JobFailed:
    """The error of a job that ended with ``code``; ``after`` says what the others do."""
    if code < 0:
        signal_name = signal.Signals(-code).name
        cause = " (was the host out of memory?)" if signal_name == "SIGKILL" else ""
        return JobFailed(f"job {name!r} was killed by {signal_name}{cause}; {after}")
    failed = JobFailed(f"job {name!r} ended with an error; its message is above; {after}")
    failed.exit_code = code if code in (1, 2, 130) else 1
    return failed


def _failure_of_all(failed: Mapping[str, JobFailed], left_out: Sequence[Job]) -> JobFailed:
    """The error at the end of a run with ``keep_going``."""
    names = ", ".join(map(repr, failed))
    without = f"; left out, as they need it: {', '.join(repr(job.name) for job in left_out)}" if left_out else ""
    several = JobFailed(f"failed: {names}, see above{without}; the others are done; the same command tries again")
    several.exit_code = next(iter(failed.values())).exit_code
    return several
