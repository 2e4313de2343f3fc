"""Lets a training task break on purpose, on one rank and at some steps; also a program for one of several ranks."""

import json
import math
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import attrs
import torch

from diffusability.core.engine.task import TrainTask


def with_nan_loss(output):
    """The objective's loss, and so the total, is NaN."""
    terms = {**output.terms, "reconstruction": torch.tensor(math.nan)}
    return attrs.evolve(output, loss=output.loss * math.nan, terms=terms)


def with_infinite_term(output):
    """A term is infinite although the total, and its gradient, are not."""
    return attrs.evolve(output, terms={**output.terms, "kl": torch.tensor(math.inf)})


def with_nan_gradient(output):
    """All losses are finite, and their gradient is not: the square root at 0."""
    nothing = output.loss - output.loss.detach()
    return attrs.evolve(output, loss=output.loss + nothing.abs().sqrt())


BREAKS = {"loss": with_nan_loss, "term": with_infinite_term, "gradient": with_nan_gradient}


@contextmanager
def breaking(kind, steps, last_position=None):
    """Breaks training at these steps, in micro batches that hold a place of the global batch (or in all)."""
    whole = TrainTask.forward

    def forward(task, batch):
        output = whole(task, batch)
        randomness = batch.randomness
        hit = randomness.step in steps and (last_position is None or last_position in randomness.positions)
        return BREAKS[kind](output) if hit and task.training else output

    with patch.object(TrainTask, "forward", forward):
        yield


def main(spec, cases, to):
    """Runs each case through ``dfz run``'s code on this rank, and writes the error of each, if any."""
    from diffusability.core.cli.run_command import run_spec
    from diffusability.core.engine import distributed
    from diffusability.core.errors import TrainingError

    errors = {}
    for name, case in json.loads(cases).items():
        with breaking(case["kind"], range(*case["steps"]), case["position"]):
            try:
                run_spec(Path(spec), [], None, case["set"], 1, Path(to) / name)
            except TrainingError as error:
                errors[name] = str(error)
    rank = distributed.start().rank
    (Path(to) / f"errors-{rank}.json").write_text(json.dumps(errors))
    distributed.start().barrier()


if __name__ == "__main__":
    main(*sys.argv[1:])
