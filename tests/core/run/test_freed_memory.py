import os
import platform
import subprocess
import sys

import pytest

#: Frees and makes a large tensor many times; prints what was said and the page faults.
PROGRAM = """
import resource, torch
from diffusability.core.run.freed_memory import keep_freed_memory
done = keep_freed_memory() if {keep} else None
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):
    torch.ones(2**24)
before = faults()
for _ in range(10):
    torch.ones(2**24)
print(done, faults() - before)
"""


def run(keep, **environment):
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_", "LD_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    word, faults = done.stdout.split()
    return word, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_memory_of_a_freed_tensor_is_used_again():
    """Ten tensors of 64 MiB one after another, when the heap has grown: hardly a page is faulted in."""
    word, faults = run(True)
    assert word == "True"
    _, usual = run(False)
    assert faults < usual / 5  # pages may be of 4 KiB or of 2 MiB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_the_environment_has_the_last_word():
    """Settings of the user's own are left alone."""
    assert run(True, MALLOC_ARENA_MAX="2")[0] == "False"
    assert run(True, GLIBC_TUNABLES="glibc.malloc.arena_max=2")[0] == "False"
