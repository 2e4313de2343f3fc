"""What data loading processes do with signals that are meant for the run."""

import os
import signal


def leave_signals_to_the_run(worker: int) -> None:
    """For a loading process at its start: signals that ask a run to save and stop shall not end what it still needs.

    Ctrl-C, and commands such as ``timeout``, signal the whole process group, which this process therefore leaves.
    SIGINT and SIGUSR1 are ignored besides, as SLURM sends them to all processes of a step. SIGTERM is not: it is how
    the run ends a loading process that hangs. Should the run itself be killed, torch's watchdog ends its loading
    processes.

    Args:
        worker: the process's number.
    """
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
