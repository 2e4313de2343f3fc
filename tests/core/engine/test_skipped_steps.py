"""What a skipped step is said to have been, with a stand-in for the engine."""

import math

import pytest
import torch

from diffusability.core.contracts.dataset import Dataset, Example
from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.batches import BatchPlan, batches, example_index
from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.metrics_log import Observed
from diffusability.core.engine.numerical_guard import NumericalGuard
from diffusability.core.engine.update_gate import UpdateGate
from diffusability.core.numerics.randomness import BatchRandomness


class Engine:
    """Applies every step that is not dropped."""

    module = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(module.parameters())

    def was_step_applied(self):
        return True


def guard_of(tmp_path, told, example_at=None):
    ranks = Ranks(rank=0, size=1, device=torch.device("cpu"))
    gate = UpdateGate(device=ranks.device, max_skipped=5)
    return NumericalGuard(folder=tmp_path, ranks=ranks, gate=gate, on_first=told.append, example_at=example_at)


def run_step(guard, step, data, loss, norm):
    guard.begin(step)
    batch = Batch(data=data, labels=None, randomness=BatchRandomness(seed=0, step=step, positions=range(len(data))))
    value = torch.tensor(loss)
    guard.watched(value, Observed.of_tensors({"reconstruction": value, "loss": value}), 2, batch, 0)
    engine = Engine()
    guard.gate.before_update(engine, torch.tensor(norm))
    return guard.end(engine)


def test_the_first_skipped_step_names_term_step_and_samples(tmp_path):
    """A NaN row among four: its number in the dataset, once, however many steps are skipped later."""
    told = []
    guard = guard_of(tmp_path, told, lambda step, position: 100 * step + position)
    data = torch.zeros(4, 3)
    assert run_step(guard, 0, data, 0.5, 1.0)
    assert told == []
    data[2] = math.nan
    assert not run_step(guard, 1, data, math.nan, math.nan)
    assert not run_step(guard, 2, data, math.nan, math.nan)
    (sentence,) = told
    assert sentence.startswith(
        "step 1 was skipped: loss term 'reconstruction' became nan on rank 0, whose data are not finite: examples 102;"
    )
    assert guard.state() == {"num_skipped": 2, "num_in_a_row": 2}


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (math.inf, "loss term 'reconstruction' became inf on rank 0 among places in the batch 0, 1;"),
        (0.5, "its gradient was not finite, and no loss term is to blame;"),
    ],
)
def test_finite_data_leave_the_batch_or_nothing_to_blame(tmp_path, loss, message):
    """A term that is infinite on finite data, and a gradient alone."""
    told = []
    assert not run_step(guard_of(tmp_path, told), 7, torch.zeros(2, 3), loss, math.nan)
    assert told[0].startswith(f"step 7 was skipped: {message}")


class Numbers(Dataset):
    """Example k holds k."""

    num_classes = None

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return Example(data=torch.tensor([float(index)]))

    def load(self, index, generator):
        return self[index]


def test_numbers_of_examples_are_those_that_batches_hold():
    """Every position of five steps, over the end of an epoch, against the loaded values."""
    dataset = Numbers()
    plan = BatchPlan(seed=3, batch_size=4, micro_batch_size=4, rank=0, num_ranks=1)
    for step, loaded in enumerate(batches(dataset, plan, 0, 5, 0)):
        expected = [example_index(dataset, 3, 4, step, position) for position in range(4)]
        assert loaded.batch.data.flatten().tolist() == expected
