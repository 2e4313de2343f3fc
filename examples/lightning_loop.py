"""Trains an autoencoder of one's own with Lightning, adds scale equivariance to its loss, and scores it as it trains.

python -m pip install lightning
python examples/lightning_loop.py --steps 200
"""

import argparse

import lightning
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from diffusability.core import Scorecard, image_set, score
from diffusability.regularizers import scale_equivariance_loss


class Autoencoder(lightning.LightningModule):
    """A small convolutional autoencoder: it knows nothing of diffusability but one loss."""

    def __init__(self, channels: int = 8, weight: float = 0.25) -> None:
        super().__init__()
        self.encoder = torch.nn.Sequential(
            torch.nn.PixelUnshuffle(4), torch.nn.Conv2d(48, 64, 3, padding=1), torch.nn.SiLU(),
            torch.nn.Conv2d(64, channels, 3, padding=1),
        )  # fmt: skip
        self.decoder = torch.nn.Sequential(
            torch.nn.Conv2d(channels, 64, 3, padding=1), torch.nn.SiLU(),
            torch.nn.Conv2d(64, 48, 3, padding=1), torch.nn.PixelShuffle(4),
        )  # fmt: skip
        self.weight = weight

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return self.encoder(images)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.decoder(latents)

    def training_step(self, batch: list[torch.Tensor], batch_index: int) -> torch.Tensor:
        (images,) = batch
        latents = self.encode(images)
        equivariance = scale_equivariance_loss(images, latents, self.decode, F.l1_loss, factor=2)
        return F.l1_loss(self.decode(latents), images) + self.weight * equivariance

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class ScoreCallback(lightning.Callback):
    """Scores the module every so many steps, in eval mode, and leaves it as it was."""

    def __init__(self, images: torch.Tensor, every: int) -> None:
        self.images = images
        self.every = every
        self.cards: list[Scorecard] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *rest: object) -> None:
        if trainer.global_step % self.every == 0 and trainer.is_global_zero:
            card = score(module, self.images, num=64, evaluators=["psnr", "dct-spectrum", "chop-off"])
            self.cards.append(card)
            share = card["high_frequency_share"]
            print(f"step {trainer.global_step}: PSNR {card['psnr']:.2f} dB, high-frequency share {share:.3f}")


def main(data: str, steps: int, resolution: int = 64, num: int = 256) -> None:
    photographs = image_set(data, resolution=resolution).dataset
    images = torch.stack([photographs[index].data for index in range(min(num, len(photographs)))])
    callback = ScoreCallback(images, every=max(1, steps // 4))
    trainer = lightning.Trainer(
        max_steps=steps, callbacks=[callback], logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False,
    )  # fmt: skip
    loader = DataLoader(TensorDataset(images), batch_size=16, shuffle=True, drop_last=True)
    trainer.fit(Autoencoder(), loader)
    print(callback.cards[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="sample-photos")
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    main(given.data, given.steps)
