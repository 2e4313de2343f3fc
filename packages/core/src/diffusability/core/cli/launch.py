"""Starts local ranks with torch's elastic launcher."""

import os
import sys
import uuid

from diffusability.core.errors import DiffusabilityError


class RankFailed(DiffusabilityError):
    """A rank ended with an error, which it has printed itself."""


def launch(num_ranks: int) -> None:
    """Runs this very command on ``num_ranks`` local processes, each with its share of the cores.

    Raises:
        RankFailed: a rank ended with an error; has that rank's exit code.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // num_ranks)))
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_ranks,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "diffusability.core.cli", *sys.argv[1:])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        failed = RankFailed(f"rank {rank} of {num_ranks} ended with status {failure.exitcode}; its message is above")
        failed.exit_code = failure.exitcode if failure.exitcode > 0 else 1
        raise failed from None
