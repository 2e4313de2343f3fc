"""Our block DCT spectrum of 1,024 latents 16x32x32 against scipy.fft.dctn in a loop over blocks.

    python benchmarks/dct_spectrum.py [--latents 1024] [--looped 64]

scipy's loop is timed on ``--looped`` latents and scaled up, since it is slow and linear. Prints one line of JSON:
seconds of each, their ratio, and the largest relative difference of the mean absolute coefficients.
"""

import argparse
import json
import time

import numpy as np
import torch
from scipy.fft import dctn

from diffusability.eval.spectra.block_spectrum import BlockSpectrum

SHAPE = (16, 32, 32)
BLOCK = 8


def looped(latents: np.ndarray) -> np.ndarray:
    """Mean absolute coefficient of each channel and frequency, block by block."""
    total = np.zeros((SHAPE[0], BLOCK, BLOCK))
    for latent in latents:
        for channel in range(SHAPE[0]):
            for row in range(0, SHAPE[1], BLOCK):
                for column in range(0, SHAPE[2], BLOCK):
                    block = latent[channel, row : row + BLOCK, column : column + BLOCK]
                    total[channel] += np.abs(dctn(block, norm="ortho"))
    return total / (len(latents) * (SHAPE[1] // BLOCK) * (SHAPE[2] // BLOCK))


def main() -> None:
    """Times both and compares them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, default=1024)
    parser.add_argument("--looped", type=int, default=64)
    arguments = parser.parse_args()
    latents = torch.randn(arguments.latents, *SHAPE, generator=torch.Generator().manual_seed(0))
    BlockSpectrum("latents", BLOCK).update(latents[:8])  # the first call fills caches
    started = time.perf_counter()
    spectrum = BlockSpectrum("latents", BLOCK)
    for batch in latents.split(64):
        spectrum.update(batch)
    ours = time.perf_counter() - started
    few = latents[: arguments.looped]
    started = time.perf_counter()
    expected = looped(few.double().numpy())
    theirs = (time.perf_counter() - started) * arguments.latents / arguments.looped
    again = BlockSpectrum("latents", BLOCK)
    again.update(few)
    difference = np.abs(again.amplitude().numpy() / expected - 1).max()
    print(
        json.dumps(
            {
                "benchmark": "dct_spectrum",
                "ours_s": round(ours, 3),
                "scipy_loop_s": round(theirs, 3),
                "ratio": round(theirs / ours, 1),
                "relative_difference": float(f"{difference:.2g}"),
            }
        )
    )


if __name__ == "__main__":
    main()
