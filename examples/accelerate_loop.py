"""Fine-tunes an autoencoder with scale equivariance in a loop of accelerate, and scores it before and after.

python -m pip install accelerate
accelerate launch examples/accelerate_loop.py --steps 200        # any number of GPUs, or the CPU
"""

import argparse

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

from diffusability.core import image_set, load_autoencoder, score
from diffusability.regularizers import scale_equivariance_loss


class Loss(torch.nn.Module):
    """The loss as a forward pass: what accelerate wraps must be called as a module, so that ranks share gradients."""

    def __init__(self, autoencoder: torch.nn.Module, weight: float) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.weight = weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        latents = self.autoencoder.encode(images).mode()
        decode = self.autoencoder.decode
        equivariance = scale_equivariance_loss(images, latents, decode, F.l1_loss, factor=2)
        return F.l1_loss(decode(latents), images) + self.weight * equivariance


def main(autoencoder: str, data: str, steps: int, weight: float = 0.25, resolution: int = 64, num: int = 256) -> None:
    accelerator = Accelerator()
    model = load_autoencoder(autoencoder)
    photographs = image_set(data, resolution=resolution).dataset
    images = torch.stack([photographs[index].data for index in range(min(num, len(photographs)))])
    before = score(model, images, num=64, evaluators=["psnr", "dct-spectrum"])

    loader = DataLoader(TensorDataset(images), batch_size=16, shuffle=True, drop_last=True)
    loss_of = Loss(model.train(), weight)
    optimizer = torch.optim.AdamW(loss_of.parameters(), lr=1e-3)
    loss_of, optimizer, loader = accelerator.prepare(loss_of, optimizer, loader)
    done = 0
    while done < steps:
        for (batch,) in loader:
            loss = loss_of(batch)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            done += 1
            if done % 50 == 0 or done == steps:
                accelerator.print(f"step {done}: loss {loss.item():.4f}")
            if done == steps:
                break

    after = score(accelerator.unwrap_model(loss_of).autoencoder, images, num=64, evaluators=["psnr", "dct-spectrum"])
    for metric in ("psnr", "high_frequency_share"):
        accelerator.print(f"{metric}: {before[metric]:.4g} before, {after[metric]:.4g} after")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--autoencoder", default="compact-kl:spatial_factor=4,latent_channels=8")
    parser.add_argument("--data", default="sample-photos")
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    main(given.autoencoder, given.data, given.steps)
