"""Starts a program on two ranks that meet on this host."""

import os
import socket
import sys

from forked_processes import ForkedProcess


def on_two_ranks(program, *arguments, timeout=600):
    """Runs a Python file as two ranks; returns their outputs by rank. Fails the test when one fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        ForkedProcess(
            [sys.executable, str(program), *map(str, arguments)],
            {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs
