"""Whether OpenMP's threads spin or sleep while they wait for each other."""

import os
import sys
import time
from collections.abc import Callable

#: Settings by which a user has chosen; libgomp, libomp and Intel's.
_CHOSEN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
#: Cores in use by other processes from which a machine counts as shared.
BUSY = 0.25
_SECONDS = 0.2


def let_threads_sleep(
    num_jobs: int,
    num_ranks: int = 1,
    *,
    num_workers: int = 0,
    others: Callable[[], float] | None = None,
) -> str | None:
    """Sets ``OMP_WAIT_POLICY=passive`` for this process and those that it starts, where spinning would waste cores.

    A thread that waits spins by default, which is quickest where it has a core to itself. Where it has not, it takes
    the core from the very thread that it waits for: a DiT beside one busy process took 3.8 times as long. On a quiet
    machine sleeping costs up to a fifth. Nothing is changed once torch was imported: libraries read the setting as they
    are loaded.

    Args:
        num_jobs: jobs at a time on this machine.
        num_ranks: ranks of each.
        num_workers: loading processes of each rank.
        others: cores that other processes use; default: looked up, for a fifth of a second.

    Returns:
        The reason, in a sentence, or None where nothing was changed.
    """
    if any(name in os.environ for name in _CHOSEN) or "torch" in sys.modules:
        return None
    cores = available_cores()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    own = int(threads) * num_jobs * num_ranks if threads.isdecimal() else num_jobs * num_ranks
    loading = num_workers * num_jobs * num_ranks
    if num_jobs > 1:
        reason = f"{num_jobs} jobs share {cores} cores"
    elif own > cores:
        reason = f"{own} compute threads share {cores} cores"
    elif loading > cores:
        reason = f"{loading} loading processes share {cores} cores with the computation"
    else:
        busy = (others or cores_in_use)()
        if busy < BUSY:
            return None
        reason = f"other processes use {busy:.1f} of {cores} cores"
    os.environ["OMP_WAIT_POLICY"] = "passive"
    return f"{reason}: waiting threads sleep instead of spinning (OMP_WAIT_POLICY=passive)"


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_in_use() -> float:
    """Cores that other processes use at this moment, of those of this process; 0 where the system does not tell."""
    before = _busy_seconds()
    if before is None:
        return 0.0
    started, own = time.monotonic(), time.process_time()
    time.sleep(_SECONDS)
    after = _busy_seconds()
    if after is None:
        return 0.0
    spent = (after - before) - (time.process_time() - own)
    return max(0.0, spent / (time.monotonic() - started))


def _busy_seconds() -> float | None:
    """Seconds that the cores of this process have worked since the start of the system; None where it is not known."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    try:
        with open("/proc/stat") as file:
            rows = {row.split()[0]: row.split()[1:] for row in file if row.startswith("cpu")}
        ticks = os.sysconf("SC_CLK_TCK")
        # user, nice, system; then idle, waiting for disks, interrupts, soft interrupts, stolen by other machines
        return sum(sum(map(int, rows[f"cpu{core}"][:3])) / ticks for core in os.sched_getaffinity(0))
    except (OSError, KeyError, ValueError):
        return None
