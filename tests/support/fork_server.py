"""A process that has imported everything, and forks one that runs a spec for each line that it reads.

Starting Python and importing torch and DeepSpeed takes longer than a tiny run; a long series of runs starts them once.
"""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import traceback
from pathlib import Path

PACKAGES = ("core", "models", "regularizers", "eval")


def import_everything():
    """All modules of the project, and what they import late."""
    importlib.import_module("deepspeed.ops.adam")
    for package in PACKAGES:
        parent = importlib.import_module(f"diffusability.{package}")
        for module in pkgutil.walk_packages(parent.__path__, parent.__name__ + "."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def serve():
    """For each request, the number of the process that runs it, and then how that has ended."""
    from tiny_runs import run_here

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # DeepSpeed logs to the standard output
    import_everything()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with Path(request["log"]).open("a") as log:
                    os.dup2(log.fileno(), 1)
                    os.dup2(log.fileno(), 2)
                run_here(Path(request["spec"]), Path(request["runs"]), *request["overrides"])
                code = 0
            except BaseException:  # noqa: BLE001 - the process ends with it
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(child, file=answers, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


class ForkServer:
    """The server from the outside."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)},
        )

    def start(self, spec, runs, log, *overrides):
        """Starts a run; returns its process number."""
        request = {"spec": str(spec), "runs": str(runs), "log": str(log), "overrides": overrides}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def exit_code(self):
        """Waits for the run that was started last; negative for a signal."""
        return int(self.process.stdout.readline())

    def close(self):
        """Ends the server."""
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


if __name__ == "__main__":
    serve()
