"""Does a resumed training of Lightning repeat the one that was not stopped? One line of JSON; needs ``lightning``.

A linear model is trained for 12 steps on shuffled data of 16 steps an epoch: once at a stretch, and once stopped after
6 steps and resumed from the checkpoint. docs/comparison.md quotes the result. For ours see
tests/integration/test_random_kills.py.
"""

import json
import tempfile
import warnings
from pathlib import Path

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset


class Model(lightning.LightningModule):
    """Denoises vectors; remembers which examples it saw."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(8, 8)
        self.seen = []

    def training_step(self, batch, index):
        data, numbers = batch
        self.seen.append(numbers.tolist())
        return (self.net(data + 0.1 * torch.randn_like(data)) - data).square().mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), 1e-2)


def trained(steps, folder, resume=None):
    """A model after these steps; its checkpoint stands in the folder under their number."""
    lightning.seed_everything(0, verbose=False)
    data = torch.randn(64, 8, generator=torch.Generator().manual_seed(5))
    loader = DataLoader(TensorDataset(data, torch.arange(64)), batch_size=4, shuffle=True)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_steps=steps, accelerator="cpu", **quiet)
    model = Model()
    trainer.fit(model, loader, ckpt_path=resume)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    return model


def main():
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, first = trained(12, folder), trained(6, folder)
        second = trained(12, folder, folder / "6.ckpt")
    seen = [number for batch in first.seen + second.seen for number in batch]
    result = {
        "lightning": lightning.__version__,
        "same_order_of_data": whole.seen[6:] == second.seen,
        "equal_weights": torch.equal(whole.net.weight, second.net.weight),
        "examples_seen": len(seen),
        "seen_twice_within_the_epoch": len(seen) - len(set(seen)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
