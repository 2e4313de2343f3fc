"""The processes that run together, started by us, by torchrun, by deepspeed or by SLURM, or a single one."""

import datetime
import logging
import os
import warnings
from typing import Any, TypeVar

import attrs
import torch
import torch.distributed as dist

T = TypeVar("T")

#: Collective calls wait this long for a rank that evaluates or writes alone.
TIMEOUT = datetime.timedelta(hours=12)


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

    def any(self, flag: bool) -> bool:
        """True on all ranks when it is true on one."""
        if self.size == 1:
            return flag
        tensor = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return bool(tensor.item())


def ranks_from_environment() -> tuple[int, int, int]:
    """Rank, size and local rank as the launcher set them; one process when there was none."""
    environment = os.environ
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return int(environment["RANK"]), int(environment["WORLD_SIZE"]), int(environment.get("LOCAL_RANK", "0"))
    if "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1:
        rank, size = int(environment["SLURM_PROCID"]), int(environment["SLURM_NTASKS"])
        return rank, size, int(environment.get("SLURM_LOCALID", "0"))
    return 0, 1, 0


def start() -> Ranks:
    """Joins the other ranks and prepares DeepSpeed. Safe to call more than once."""
    rank, size, local_rank = ranks_from_environment()
    os.environ["LOCAL_RANK"] = str(local_rank)
    has_gpu = torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if has_gpu else "cpu")
    device = torch.device("cuda", local_rank) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "nccl" if has_gpu else "gloo"
        if size == 1:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
        else:
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
            os.environ.setdefault("MASTER_PORT", "29500")
            dist.init_process_group(backend, rank=rank, world_size=size, timeout=TIMEOUT)
    _start_deepspeed(size)
    return Ranks(rank=rank, size=size, device=device)


def _start_deepspeed(size: int) -> None:
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import deepspeed
        from deepspeed.utils import logger

        logger.setLevel(logging.ERROR)
        if size == 1:
            # Its shared-memory reduction between local ranks is compiled at first use; one rank needs none.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(verbose=False)


def stop() -> None:
    """Leaves the other ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()
