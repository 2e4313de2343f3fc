"""Starts local ranks with torch's elastic launcher."""

import os
import sys

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
    from torch.distributed.run import main as torchrun

    words = sys.argv[1:]
    try:
        torchrun(
            [
                "--standalone",
                f"--nproc-per-node={num_ranks}",
                "--max-restarts=0",
                "-m",
                "diffusability.core.cli",
                *words,
            ]
        )
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        failed = RankFailed(
            f"rank {failure.global_rank if hasattr(failure, 'global_rank') else ''} ended with an error"
        )
        failed.exit_code = failure.exitcode if failure.exitcode > 0 else 1
        raise failed from None
