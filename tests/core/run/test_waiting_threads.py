"""When waiting threads are told to sleep."""

import os
import subprocess
import sys
import time

import pytest

from diffusability.core.run import waiting_threads
from diffusability.core.run.waiting_threads import available_cores, cores_in_use, let_threads_sleep


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """Two cores, nothing chosen, torch not imported."""
    for name in (*waiting_threads._CHOSEN, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(waiting_threads, "available_cores", lambda: 2)
    monkeypatch.setattr(sys, "modules", {name: module for name, module in sys.modules.items() if name != "torch"})
    monkeypatch.setenv("OMP_WAIT_POLICY", "restored after the test")
    monkeypatch.delenv("OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("jobs", "ranks", "workers", "threads", "busy", "reason"),
    [
        (1, 1, 2, None, 0.0, None),
        (1, 2, 1, "1", 0.1, None),
        (2, 1, 0, None, 0.0, "2 jobs share 2 cores"),
        (1, 3, 0, None, 0.0, "3 compute threads share 2 cores"),
        (1, 2, 0, "2", 0.0, "4 compute threads share 2 cores"),
        (1, 1, 3, None, 0.0, "3 loading processes share 2 cores with the computation"),
        (1, 1, 0, None, 1.04, "other processes use 1.0 of 2 cores"),
        (1, 1, 0, "as many as there are", 1.04, "other processes use 1.0 of 2 cores"),
    ],
)
def test_threads_sleep_where_cores_are_shared(monkeypatch, jobs, ranks, workers, threads, busy, reason):
    """By jobs, ranks times threads, loading processes, or what else runs; the setting and its reason together."""
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    said = let_threads_sleep(jobs, ranks, num_workers=workers, others=lambda: busy)
    assert (said or "").partition(":")[0] == (reason or "")
    assert os.environ.get("OMP_WAIT_POLICY") == (None if reason is None else "passive")


@pytest.mark.parametrize("name", waiting_threads._CHOSEN)
def test_a_choice_of_the_user_stays(monkeypatch, name):
    """Whichever library it is meant for."""
    monkeypatch.setenv(name, "active")
    assert let_threads_sleep(8, others=lambda: 8.0) is None
    assert os.environ[name] == "active"


def test_torch_has_read_the_setting_already():
    """It would be said and have no effect."""
    sys.modules["torch"] = sys
    assert let_threads_sleep(8, others=lambda: 8.0) is None


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="needs /proc/stat")
def test_a_busy_process_is_seen():
    """One more core in use while it spins, where a core is free for it."""
    cores = len(os.sched_getaffinity(0))
    seen = []
    for _ in range(5):  # other work may come and go meanwhile
        before = cores_in_use()
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
            time.sleep(0.1)
            during = cores_in_use()
            process.kill()
        assert 0 <= during <= cores + 0.5
        seen.append(during > min(before + 0.3, 0.6 * cores))
        if seen[-1]:
            break
    assert any(seen)


def test_the_cores_of_this_process():
    """As the affinity says."""
    assert available_cores() >= 1
