"""Keeps memory that tensors leave behind for the next ones, instead of giving it back to the operating system."""

import ctypes
import os

#: Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_TOP_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Lets glibc's malloc reuse the memory of freed tensors in this process; to be called before the work begins.

    By default glibc maps every large block from the kernel and unmaps it when it is freed, so that a step on a CPU
    faults in the pages of all its activations again and the kernel clears them: up to two thirds of the time where page
    faults are expensive, as in virtual machines. Afterwards memory comes from one heap that grows and stays
    (``benchmarks/freed_memory.py``), and the process holds its peak until it ends.

    Does nothing where malloc is not glibc's, or where the environment sets ``MALLOC_*`` or ``GLIBC_TUNABLES``: the
    user's own choices; or ``LD_PRELOAD``: most often another allocator.

    Returns:
        Whether it was done.
    """
    if any(name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD_BYTES), (_M_ARENA_MAX, 1))
    accepted = [mallopt(parameter, value) == 1 for parameter, value in settings]
    return all(accepted)
