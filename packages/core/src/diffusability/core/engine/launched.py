"""What a launcher told this process: its rank, how many there are, and where they meet. Free of torch."""

import os
import re
import socket
from collections.abc import Callable, Mapping

import attrs

from diffusability.core.errors import SpecError

DEFAULT_PORT = 29500


@attrs.frozen(kw_only=True)
class LaunchedRank:
    """A process among those that a launcher started.

    Attributes:
        rank: its number.
        size: how many there are, over all hosts.
        local_rank: its number on its host.
        address: host of rank 0.
        port: where rank 0 listens, or the launcher for it.
        launcher: who started it.
    """

    rank: int
    size: int
    local_rank: int
    address: str
    port: int
    launcher: str


def _resolves(host: str) -> bool:
    try:
        socket.gethostbyname(host)
    except OSError:
        return False
    return True


def launched_rank(
    environment: Mapping[str, str] = os.environ, resolves: Callable[[str], bool] = _resolves
) -> LaunchedRank | None:
    """The rank that torchrun, ``deepspeed``, ``dfz run --nproc`` or srun gave to this process; None without one.

    torchrun, ``deepspeed`` and ``dfz`` set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. srun sets
    SLURM_PROCID and its relatives; there the first host of the step is where ranks meet, at a port that follows from
    the job's number. MASTER_ADDR and MASTER_PORT win over both.

    Raises:
        SpecError: the variables are incomplete or contradict each other.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        for name, other in (("RANK", "WORLD_SIZE"), ("WORLD_SIZE", "RANK")):
            if name not in environment:
                raise SpecError(
                    f"the environment has {other}={environment[other]!r} but no {name}; a launcher sets both"
                )
        rank, size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
        _refuse_incomplete(environment, size)
        local_rank, launcher = _number(environment, "LOCAL_RANK", 0), "torchrun or deepspeed"
        address, port = "127.0.0.1", DEFAULT_PORT
    elif "SLURM_PROCID" in environment and slurm_size(environment) > 1:
        rank, size = _number(environment, "SLURM_PROCID"), slurm_size(environment)
        local_rank, launcher = _number(environment, "SLURM_LOCALID", 0), "srun"
        address, port = slurm_address(environment, resolves), slurm_port(environment)
    else:
        return None
    if not 0 <= rank < size:
        raise SpecError(f"the environment says rank {rank} of {size}; expected a rank from 0 to {size - 1}")
    return LaunchedRank(
        rank=rank,
        size=size,
        local_rank=local_rank,
        address=environment.get("MASTER_ADDR", address),
        port=_number(environment, "MASTER_PORT", port),
        launcher=launcher,
    )


def _refuse_incomplete(environment: Mapping[str, str], size: int) -> None:
    """Refuses what no launcher leaves: several ranks, and not where they meet or which is which on its host."""
    missing = [name for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if size > 1 and missing:
        raise SpecError(
            f"the environment has RANK={environment['RANK']!r} and WORLD_SIZE={environment['WORLD_SIZE']!r} but no"
            f" {', '.join(missing)}; torchrun and deepspeed set all of them. To run alone, unset RANK and WORLD_SIZE"
        )


def slurm_size(environment: Mapping[str, str]) -> int:
    """Tasks of the job step; of the job where srun does not tell the step's."""
    name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    return _number(environment, name, 1)


def slurm_address(environment: Mapping[str, str], resolves: Callable[[str], bool] = _resolves) -> str:
    """The host of rank 0: the first of the step's hosts, or else the address from which srun was started."""
    for name in ("SLURM_STEP_NUM_NODES", "SLURM_NNODES"):
        if environment.get(name) == "1":
            return "127.0.0.1"
    for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"):
        if environment.get(name) and resolves(host := first_host(environment[name])):
            return host
    return environment.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1")


def slurm_port(environment: Mapping[str, str]) -> int:
    """A port from 10000 to 29999 that the ranks of a job step agree on, and two jobs on one host rarely."""
    job, step = _number(environment, "SLURM_JOB_ID", 0), _number(environment, "SLURM_STEP_ID", 0)
    return 10_000 + (job * 7 + step) % 20_000


def first_host(nodelist: str) -> str:
    """The first host of SLURM's short form: ``gpu[003-007,9],login`` is ``gpu003``."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodelist.strip())
    assert first is not None  # the pattern matches the empty string as well
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first[0])


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise SpecError(f"the environment has {name}={text!r}; expected a whole number") from None
