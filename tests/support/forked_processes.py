"""Processes that begin with everything imported: a server that has done so forks them.

Starting Python and importing torch and DeepSpeed takes longer than a tiny run, and a run of two ranks starts three
processes. Here ``python -m MODULE ...`` and ``python FILE ...`` become forks of one process; so do the ranks and jobs
that they start themselves. They have their own memory, environment, signals and exit status, as other processes do.
What is about the start itself (imports, launchers, hash seeds) is tested with processes that start anew.
"""

import atexit
import gc
import importlib
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from functools import cache, partial
from multiprocessing import resource_tracker
from pathlib import Path

#: Imported by the server before the first fork.
PRELOADED = "everything_imported"


def program_of(command):
    """The words after ``python`` where a command is a module or file for this Python; None for all else."""
    if not isinstance(command, (list, tuple)) or str(command[0]) != sys.executable:
        return None
    arguments = [str(word) for word in command[1:]]
    runs_module = len(arguments) > 1 and arguments[0] == "-m"
    return arguments if runs_module or arguments[0].endswith(".py") else None


def become(arguments, environment):
    """Runs a program in this process, which has just been forked, to its end. Does not return."""
    gc.enable()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    by_line = 1 if "PYTHONUNBUFFERED" in environment else -1
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", buffering=by_line, closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    for name in ("random", "numpy.random"):
        sys.modules[name].seed()
    code = 1
    try:
        code = _code_of(arguments)
    finally:
        for end in (threading._shutdown, atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):
            try:
                end()
            except BaseException:  # noqa: BLE001 - the process ends all the same
                sys.excepthook(*sys.exc_info())
        os._exit(code)


def _code_of(arguments):
    """Runs a module or a file as the main program; its exit status."""
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).parent))
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001 - the main program has ended with it
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


class ForkingPopen(subprocess.Popen):
    """``Popen``, but a fork of this process where it would start this Python anew: nothing is executed after the fork.

    In the place of ``subprocess.Popen`` for what the server imports, and so for its forks.
    """

    def __init__(self, args, *more, env=None, pass_fds=(), **options):
        arguments = program_of(args)
        if arguments is not None:
            environment = dict(os.environ if env is None else env)
            options["preexec_fn"] = partial(self._become, arguments, environment, pass_fds)
        super().__init__(args, *more, env=env, pass_fds=pass_fds, **options)

    @staticmethod
    def _become(arguments, environment, kept):
        """Instead of ``exec``, which would close all files but these, and let the other side know by that."""
        first = 3
        for kept_file in sorted(kept):
            os.closerange(first, kept_file)
            first = kept_file + 1
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))
        resource_tracker._resource_tracker._fd = resource_tracker._resource_tracker._pid = None
        become(arguments, environment)


@cache
def _server():
    """The server of this process, started with the first fork."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    before = dict(os.environ)
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])),
    }
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def _serve(arguments, environment, cwd, out, err, new_session, anew):
    """In the fork: its output and folder, then the program."""
    importlib.import_module(PRELOADED)  # the server has, unless that raised: then here, too, and is seen
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    if new_session:
        os.setsid()
    if anew:
        os.execve(sys.executable, [sys.executable, *arguments], environment)
    become(arguments, environment)


@cache
def _has_gpu():
    """Then no fork may compute: CUDA does not survive it."""
    import torch

    return torch.cuda.is_available()


_running = set()


class ForkedProcess:
    """A program that runs in a fork of the server, with what tests use of ``subprocess.Popen``."""

    def __init__(self, command, env=None, cwd=None, separate_errors=False, new_session=False, anew=False):
        """Starts ``[sys.executable, "-m", MODULE, ...]`` or ``[sys.executable, FILE, ...]``.

        Args:
            command: the words.
            env: the environment, by default this one; always with one thread.
            cwd: the folder.
            separate_errors: whether errors are apart from the output, not part of it.
            new_session: whether it leads a process group of its own.
            anew: whether Python starts once more and imports by itself, for what is about that.
        """
        arguments = program_of(command)
        assert arguments is not None, f"not a program of this Python: {command}"
        folder = Path(tempfile.mkdtemp(prefix="forked-"))
        weakref.finalize(self, shutil.rmtree, folder)
        self._out = folder / "stdout"
        self._err = folder / "stderr" if separate_errors else self._out
        self._out.touch()
        self._err.touch()
        environment = {**(os.environ if env is None else env), "OMP_NUM_THREADS": "1"}
        self._process = _server().Process(
            target=_serve,
            args=(
                arguments,
                environment,
                str(cwd or Path.cwd()),
                str(self._out),
                str(self._err),
                new_session,
                anew or _has_gpu(),
            ),
        )
        self._process.start()
        self.pid = self._process.pid
        _running.add(self)

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def wait(self, timeout=None):
        """The exit status, negative for a signal."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.pid, timeout, self._out.read_text())
        _running.discard(self)
        return self.returncode

    def communicate(self, timeout=None):
        """Waits; the output, and the errors or None where they are part of it."""
        self.wait(timeout)
        return self._out.read_text(), (self._err.read_text() if self._err != self._out else None)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


@atexit.register
def _kill_all():
    """What a failed test has left at work."""
    for process in _running:
        process.kill()
