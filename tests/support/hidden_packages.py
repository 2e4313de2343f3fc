"""A fresh interpreter in which some packages are as if they were not installed."""

import os
import subprocess
import sys
from collections.abc import Sequence

_HIDE = """
import sys
from importlib.machinery import PathFinder
hidden, find_spec = set({hidden!r}), PathFinder.find_spec
def without_hidden(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in hidden else find_spec(name, path, target)
PathFinder.find_spec = classmethod(without_hidden)
"""


def run_without(hidden: Sequence[str], program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs a program in which importing and looking for the hidden packages says that there are none."""
    return subprocess.run(
        [sys.executable, "-c", _HIDE.format(hidden=list(hidden)) + program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAXTYPING_DISABLE": "1"},
    )
