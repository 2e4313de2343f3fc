"""The processes that run together, started by us, by torchrun, by deepspeed or by SLURM, or a single one."""

import datetime
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import torch
import torch.distributed as dist

from diffusability.core.engine.launched import LaunchedRank, launched_rank
from diffusability.core.engine.update_gate import LaterRead
from diffusability.core.errors import DiffusabilityError, RankLostError

T = TypeVar("T")

#: Collective calls wait this long for a rank that evaluates or writes alone.
TIMEOUT = datetime.timedelta(hours=12)

#: Starting waits this long for the other ranks.
JOIN_TIMEOUT = datetime.timedelta(minutes=10)

#: After this many seconds of waiting for them, it says so.
QUIET_S = 10.0

#: What torch's backends say, in lower case, when a rank that they talk to is gone.
_LOST = (
    "connection closed",
    "connection reset",
    "connection refused",
    "broken pipe",
    "remote process exited",
    "communicator was aborted",
)


@attrs.frozen(kw_only=True)
class Ranks:
    """This process among those that run together.

    Attributes:
        rank: its number.
        size: how many there are.
        device: where it computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True for the process that writes and speaks."""
        return self.rank == 0

    def barrier(self) -> None:
        """Waits for all ranks."""
        if self.size > 1:
            dist.barrier()

    def gathered(self, value: T) -> list[T]:
        """Every rank's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def handed_over(self, value: T | None, source: int) -> T | None:
        """A rank's value on the first rank, None elsewhere; one rank's at a time, so that memory holds for one.

        The source and the first rank must call it; the others may.
        """
        if self.rank == source:
            dist.send_object_list([value], dst=0, device=self.device)
        if self.is_main:
            values: list[Any] = [None]
            dist.recv_object_list(values, src=source, device=self.device)
            received: T = values[0]
            return received
        return None

    def any(self, flag: bool) -> bool:
        """True on all ranks when it is true on one."""
        if self.size == 1:
            return flag
        tensor = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return bool(tensor.item())


@attrs.define
class RanksVote:
    """A question asked at every step: whether a flag is set on any rank. On GPUs the answer is of the step before, so
    that the host does not wait for them.
    """

    ranks: Ranks
    _asked: LaterRead | None = None

    def any(self, flag: bool) -> bool:
        """True on all ranks, at the same call, when it is true on one; False at the first call on GPUs."""
        if self.ranks.size == 1 or self.ranks.device.type != "cuda":
            return self.ranks.any(flag)
        before, answer = self._asked, False
        asked = torch.full((), int(flag), device=self.ranks.device)
        dist.all_reduce(asked, op=dist.ReduceOp.MAX)
        self._asked = LaterRead(asked.bool())
        if before is not None:
            answer = before.value()
        return answer


def start() -> Ranks:
    """Joins the other ranks. Safe to call more than once.

    Raises:
        DiffusabilityError: this rank has no GPU of its own on a host with GPUs, or the others cannot be reached.
    """
    launched = launched_rank() or LaunchedRank(
        rank=0, size=1, local_rank=0, address="127.0.0.1", port=0, launcher="nobody"
    )
    os.environ["LOCAL_RANK"] = str(launched.local_rank)
    has_gpu = torch.cuda.is_available()
    device = _own_gpu(launched) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        _join(launched, "nccl" if has_gpu else "gloo")
    return Ranks(rank=launched.rank, size=launched.size, device=device)


def _own_gpu(launched: LaunchedRank) -> torch.device:
    count = torch.cuda.device_count()
    if launched.local_rank < count:
        return torch.device("cuda", launched.local_rank)
    if count == 1 and launched.launcher == "srun":  # each task sees its own GPU only
        return torch.device("cuda", 0)
    raise DiffusabilityError(
        f"local rank {launched.local_rank} has no GPU: {count} can be seen on this host; start at most {count} ranks"
    )


def _join(launched: LaunchedRank, backend: str) -> None:
    if launched.size == 1:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
        return
    os.environ |= {
        "RANK": str(launched.rank),
        "WORLD_SIZE": str(launched.size),
        "MASTER_ADDR": launched.address,
        "MASTER_PORT": str(launched.port),
    }
    where = f"{launched.address}:{launched.port}"
    waiting = _say_later(launched, where)
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=JOIN_TIMEOUT))  # type: ignore[attr-defined]
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("ranks", store),  # type: ignore[attr-defined]
            rank=launched.rank,
            world_size=launched.size,
            timeout=TIMEOUT,
        )
    except RuntimeError as error:
        first_line = str(error).partition("\n")[0]
        raise DiffusabilityError(
            f"rank {launched.rank} of {launched.size} could not meet the others at {where}: {first_line}; are all ranks"
            " started, and can they reach that address (MASTER_ADDR, MASTER_PORT)?"
        ) from error
    finally:
        waiting.cancel()


def _say_later(launched: LaunchedRank, where: str) -> threading.Timer:
    """A timer that says what a rank waits for, should the others not come at once."""
    names = "RANK and WORLD_SIZE" if launched.launcher != "srun" else "SLURM_PROCID and SLURM_NTASKS"
    timer = threading.Timer(
        QUIET_S,
        print,
        [
            f"rank {launched.rank} of {launched.size} waits for the others at {where}, up to"
            f" {JOIN_TIMEOUT.seconds // 60} minutes: the environment says that {launched.launcher} started"
            f" {launched.size} ranks. To run alone, unset {names}"
        ],
        {"file": sys.stderr, "flush": True},
    )
    timer.daemon = True
    timer.start()
    return timer


@contextmanager
def naming_lost_ranks(ranks: Ranks) -> Iterator[None]:
    """Turns the failure of a collective call, after another rank has ended, into a RankLostError."""
    try:
        yield
    except RuntimeError as error:
        if ranks.size > 1 and any(sign in str(error).lower() for sign in _LOST):
            cause = " ".join(str(error).partition(". ")[0].split())[:200]
            raise RankLostError(
                f"rank {ranks.rank} cannot continue, because another rank has ended ({cause}); the same command resumes"
                " from the last checkpoint"
            ) from error
        raise


def is_first(event: str) -> bool:
    """True for the first rank that asks about an event, and for all that cannot find out."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return True
    try:
        return bool(dist.distributed_c10d._get_default_store().add(f"first/{event}", 1) == 1)
    except RuntimeError:  # the rank that kept the count has ended
        return True


def stop() -> None:
    """Leaves the other ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()
