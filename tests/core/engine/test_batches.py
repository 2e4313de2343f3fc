import torch

from diffusability.core.contracts.dataset import Dataset, Example, UnreadableExample
from diffusability.core.engine.batches import BatchPlan, batches


class Numbers(Dataset):
    """Example i holds the number i and one draw of its generator; some cannot be read."""

    def __init__(self, size, broken=()):
        self.size, self.broken = size, set(broken)

    def __len__(self):
        return self.size

    def load(self, index, generator):
        if index in self.broken:
            raise UnreadableExample(f"number {index}")
        return Example(data=torch.tensor([float(index), float(torch.rand((), generator=generator))]).view(2, 1, 1))


def plan(**changes):
    fields = {"seed": 5, "batch_size": 8, "micro_batch_size": 8, "rank": 0, "num_ranks": 1}
    return BatchPlan(**(fields | changes))


def loaded(dataset, plan, first=0, last=6, num_workers=0):
    return [item.batch.data.flatten(1) for item in batches(dataset, plan, first, last, num_workers)]


def test_an_epoch_sees_every_example_once():
    """Five batches of eight from forty examples; the next epoch is another order of the same."""
    data = torch.cat(loaded(Numbers(40), plan(), 0, 10))[:, 0]
    first, second = data[:40].tolist(), data[40:].tolist()
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second


def test_ranks_and_micro_batches_only_cut_the_same_batch():
    """Two ranks with two micro batches each against one rank with one: the same samples and augmentations."""
    whole = loaded(Numbers(40), plan())
    parts = [loaded(Numbers(40), plan(micro_batch_size=2, rank=rank, num_ranks=2)) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        pieces = [parts[rank][2 * step + accumulation] for accumulation in (0, 1) for rank in (0, 1)]
        assert torch.equal(torch.cat(pieces), batch)


def test_workers_and_a_later_start_change_nothing():
    """Two loading processes, starting at step 3, against none, from the beginning."""
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(
            loaded(Numbers(40), plan(), 3, 6, num_workers=2), loaded(Numbers(40), plan())[3:], strict=True
        )
    )


def test_unreadable_examples_are_reported_and_batches_stay_full():
    """Each report names the example; what stands in for it is the same every time."""
    dataset = Numbers(40, broken=(3, 17))
    items = list(batches(dataset, plan(), 0, 5))
    assert sorted(report for item in items for report in item.unreadable) == ["number 17", "number 3"]
    assert all(len(item.batch.data) == 8 for item in items)
    again = list(batches(dataset, plan(), 0, 5))
    assert all(torch.equal(a.batch.data, b.batch.data) for a, b in zip(items, again, strict=True))
