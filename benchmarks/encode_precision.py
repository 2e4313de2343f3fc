"""What bf16 does to the encode stage: its speed, its latents, what they decode to, and the loss of a DiT on them.

    python benchmarks/encode_precision.py [--autoencoder taesd:weights/taef2] [--data photographs] [--samples 64]
        [--resolution 128] [--rounds 3] [--dit-steps 200]

The autoencoder is anything that ``dfz score`` accepts by name; without one it is ``flux`` at width 32 with random
weights. Float32 and bf16 are timed in turns over the same images, loading not counted. Prints one line of JSON:
images per second of each and the median of the ratios round by round; relative errors (Euclidean norm) of the mean,
and of the log variance where there is one; the PSNR of reconstructions from each, decoded in float32; and the mean
loss over the last half of the steps of the same small DiT on each, with the same noise.
"""

import argparse
import json
import statistics
import time

import torch
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder, build_autoencoder
from diffusability.core.data.specs.image_folder import ImageFolderSpec
from diffusability.core.data.specs.sample_photos import SamplePhotosSpec
from diffusability.core.numerics.precision import multiplies_bf16
from diffusability.core.scoring.named_autoencoders import named_autoencoders
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.stages.evaluation_data import fixed_order
from diffusability.core.stages.low_precision import LowPrecision


def images_of(arguments: argparse.Namespace) -> Tensor:
    """Images in [-1, 1], (n, c, h, w), in the fixed order of the encode stage."""
    size = arguments.resolution
    spec = (
        ImageFolderSpec(path=arguments.data, resolution=size)
        if arguments.data
        else SamplePhotosSpec(resolution=size, size=arguments.samples)
    )
    dataset = spec.build(BuildContext(), "train")
    return torch.stack([dataset[index].data for index in fixed_order(dataset, arguments.samples)])


@torch.inference_mode()
def encoded(autoencoder: Autoencoder, images: Tensor, batch_size: int) -> tuple[dict[str, Tensor], float]:
    """Mean and log variance of all images, as they go into the cache, and the seconds that took."""
    started = time.perf_counter()
    posteriors = [autoencoder.encode(batch) for batch in images.split(batch_size)]
    columns = {"mean": torch.cat([posterior.mean.half() for posterior in posteriors])}
    if posteriors[0].logvar is not None:
        columns["logvar"] = torch.cat([posterior.logvar.half() for posterior in posteriors])
    return columns, time.perf_counter() - started


@torch.inference_mode()
def psnr(autoencoder: Autoencoder, latents: Tensor, images: Tensor, batch_size: int) -> float:
    """Mean PSNR in dB of the images decoded from latents."""
    decoded = torch.cat([autoencoder.decode(batch.float()) for batch in latents.split(batch_size)])
    errors = ((decoded.clamp(-1, 1) - images) / 2).square().flatten(1).mean(1)
    return float((-10 * errors.log10()).mean())


def dit_loss(latents: Tensor, steps: int) -> float:
    """Mean flow-matching loss over the last half of the training of a DiT-Ti/2 on standardised latents."""
    from diffusability.models.specs.denoisers.dit import DiTSpec

    torch.manual_seed(0)
    latents = latents.float()
    dims = (0, 2, 3)
    latents = (latents - latents.mean(dims, keepdim=True)) / latents.std(dims, keepdim=True)
    model = DiTSpec(size="Ti/2").build(BuildContext(latent_shape=tuple(latents.shape[1:])))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(latents), (16,), generator=generator)
        noise = torch.randn(16, *latents.shape[1:], generator=generator)
        times = torch.rand(16, generator=generator)
        t = times.view(-1, 1, 1, 1)
        output = model((1 - t) * latents[rows] + t * noise, times, None)
        loss = (output - (noise - latents[rows])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return statistics.fmean(losses[steps // 2 :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--autoencoder", help="as for dfz score; default: flux at width 32, random weights")
    parser.add_argument("--data", help="folder of images; default: the photographs that packages ship")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dit-steps", type=int, default=0, help="0: no DiT is trained")
    arguments = parser.parse_args()
    if arguments.autoencoder:
        (named,) = named_autoencoders([arguments.autoencoder])
        spec = AutoencoderSpec.model_validate(named.spec)
    else:
        spec = AutoencoderSpec.model_validate({"kind": "flux", "width": 32})
    torch.manual_seed(0)
    full = build_autoencoder(spec).eval().requires_grad_(False)
    torch.manual_seed(0)
    low = LowPrecision(build_autoencoder(spec), torch.bfloat16).eval().requires_grad_(False)
    images = images_of(arguments)
    for model in (full, low):
        encoded(model, images[: arguments.batch_size], arguments.batch_size)
    seconds: dict[str, list[float]] = {"fp32": [], "bf16": []}
    columns: dict[str, dict[str, Tensor]] = {}
    for _ in range(arguments.rounds):
        for name, model in (("fp32", full), ("bf16", low)):
            columns[name], spent = encoded(model, images, arguments.batch_size)
            seconds[name].append(spent)
    ratios = [slow / fast for slow, fast in zip(seconds["fp32"], seconds["bf16"], strict=True)]
    figures = {
        "instructions_for_bf16": multiplies_bf16("cpu"),
        "threads": torch.get_num_threads(),
        **{f"images_per_s_{name}": len(images) / statistics.median(spent) for name, spent in seconds.items()},
        "ratio": statistics.median(ratios),
    }
    for name, exact in columns["fp32"].items():
        difference = columns["bf16"][name].float() - exact.float()
        figures[f"relative_error_{name}"] = float(difference.norm() / exact.float().norm())
    for name, latents in columns.items():
        figures[f"psnr_{name}"] = psnr(full, latents["mean"], images, arguments.batch_size)
        if arguments.dit_steps:
            figures[f"dit_loss_{name}"] = dit_loss(latents["mean"], arguments.dit_steps)
    print(json.dumps({name: round(value, 5) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
