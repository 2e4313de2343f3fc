"""Forks in the place of started programs: what the tests that use them rely on."""

import os
import signal
import sys
import textwrap

import pytest
from forked_processes import ForkedProcess

pytestmark = pytest.mark.integration


@pytest.fixture
def program(tmp_path):
    """Writes a program; returns the command that runs it."""

    def write(text, name="program.py"):
        (tmp_path / name).write_text(textwrap.dedent(text))
        return [sys.executable, str(tmp_path / name)]

    return write


@pytest.mark.parametrize("anew", [False, True])
def test_words_environment_folder_and_streams(program, tmp_path, anew):
    """Those of the call and no others; what Python does at its end is done: threads are waited for, exits called."""
    command = program(
        """
        import atexit, os, sys, threading, time
        atexit.register(print, "at the end")
        threading.Thread(target=lambda: (time.sleep(0.2), print("after the main program"))).start()
        print(sys.argv[1:], os.getcwd(), sorted(set(os.environ) - {"LC_CTYPE"}), __name__, "torch" in sys.modules)
        print("an error", file=sys.stderr)
        """
    )
    process = ForkedProcess([*command, "a", "b c"], {"X": "1"}, tmp_path, separate_errors=True, anew=anew)
    output, errors = process.communicate(60)
    assert output.splitlines() == [
        f"['a', 'b c'] {tmp_path} ['OMP_NUM_THREADS', 'X'] __main__ {not anew}",
        "after the main program",
        "at the end",
    ]
    assert errors == "an error\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(75)", 75, ""),
        ("raise SystemExit('a sentence')", 1, "a sentence"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os._exit(3)", 3, ""),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
    ],
)
def test_exit_status(program, text, code, said):
    """That of the program, of its error, or of the signal that it dies of."""
    process = ForkedProcess(program(text))
    output, _ = process.communicate(60)
    assert process.returncode == code
    assert said in output


def test_signals_have_their_defaults(program, tmp_path):
    """Also in a fork of a process that handles or ignores them by now."""
    program("import time\nopen('ready', 'w').close()\ntime.sleep(60)", "sleeps.py")
    command = program(
        """
        import os, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, lambda *_: print("heard"))
        process = subprocess.Popen([sys.executable, "sleeps.py"])
        while not os.path.exists("ready"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        process.terminate()
        print(process.wait())
        """
    )
    process = ForkedProcess(command, cwd=tmp_path)
    assert process.communicate(60)[0].split() == ["heard", str(-signal.SIGTERM)]
    (tmp_path / "ready").unlink()
    process = ForkedProcess([sys.executable, "sleeps.py"], cwd=tmp_path, new_session=True)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
    assert os.getpgid(process.pid) == process.pid
    process.terminate()
    assert process.wait(60) == -signal.SIGTERM


def test_programs_that_a_program_starts(program, tmp_path):
    """They are forks, too: children of theirs, with the files that were to be passed on and no others."""
    program(
        """
        import os, sys
        print("torch" in sys.modules, os.getppid(), os.environ["X"], sys.stdin.read(), flush=True)
        os.write(int(sys.argv[1]), b"passed on")
        try:
            os.write(int(sys.argv[2]), b"not passed on")
        except OSError as error:
            sys.exit(error.errno)
        """,
        "inner.py",
    )
    command = program(
        """
        import os, subprocess, sys
        (here, there), (_, closed) = os.pipe(), os.pipe()
        done = subprocess.run(
            [sys.executable, "inner.py", str(there), str(closed)], env={"X": "2"}, pass_fds=[there],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
        print(done.stdout.split() == ["True", str(os.getpid()), "2"], done.returncode, os.read(here, 100))
        print(subprocess.run(["echo", "executed"], capture_output=True, text=True).stdout)
        """
    )
    output, _ = ForkedProcess(command, cwd=tmp_path).communicate(60)
    assert output.split("\n")[:2] == ["True 9 b'passed on'", "executed"]
