"""A training step of an autoencoder of diffusers (FluxAE's architecture, a quarter of its width), by several means.

    python benchmarks/autoencoder_step.py [--rounds 5] [--steps 2] [--width 32] [--resolution 128] [--batch-size 4]

``plain_*`` is the shortest loop around diffusers' own class; ``ours`` is the objective ``reconstruction`` with the
engine's defaults, ``ours_compiled`` adds ``engine.compile``. All do the same step: encode, sample, decode, mean
absolute error, backward, clip, AdamW. They are timed in turns in one process, so that a machine whose speed drifts
slows all.
Prints one line of JSON: the median seconds a step of each, and the medians of ratios to ``plain_fp32`` round by round.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.blocks import prepare_blocks
from diffusability.core.engine.task import TrainTask
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec, ObjectiveSpec
from diffusability.core.specs.engine import EngineSpec

Step = Callable[[], None]


def updating(parameters: list[torch.nn.Parameter], loss: Callable[[], Tensor]) -> Step:
    """A step of clipped AdamW on a loss."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def plain(spec: AutoencoderSpec, images: Tensor, bf16: bool) -> Step:
    """Diffusers' model in a bare loop."""
    torch.manual_seed(0)
    model = spec.build(BuildContext()).model.train().to(images.device)

    def loss() -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            posterior = model.encode(images).latent_dist
            reconstruction = model.decode(posterior.sample()).sample
        return (reconstruction.float() - images).abs().mean()

    return updating(list(model.parameters()), loss)


def ours(spec: AutoencoderSpec, images: Tensor, compiled: bool) -> Step:
    """The task that the engine trains, prepared as the engine does."""
    torch.manual_seed(0)
    objective = ObjectiveSpec.model_validate({"kind": "reconstruction", "autoencoder": spec.model_dump()})
    engine = EngineSpec(compile=compiled)
    task = TrainTask(objective.build(BuildContext()), {}, (), torch.bfloat16).train()
    prepare_blocks(task, engine)
    task.to(images.device)
    parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
    randomness = BatchRandomness(seed=0, step=0, positions=range(len(images)))
    batch = Batch(data=images, labels=None, randomness=randomness)
    return updating(parameters, lambda: task(batch).loss)


def main() -> None:
    """Times all in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rounds", 5), ("steps", 2), ("width", 32), ("resolution", 128), ("batch-size", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--no-compile", action="store_true", help="leave engine.compile out")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.batch_size, 3, arguments.resolution, arguments.resolution)
    images = (torch.rand(shape, generator=generator) * 2 - 1).to(device)
    spec = AutoencoderSpec.model_validate({"kind": "flux", "width": arguments.width})
    steps = {
        "plain_fp32": plain(spec, images, bf16=False),
        "plain_bf16": plain(spec, images, bf16=True),
        "ours": ours(spec, images, compiled=False),
    }
    if not arguments.no_compile:
        steps["ours_compiled"] = ours(spec, images, compiled=True)
    for step in steps.values():
        step()  # warm-up, and compilation
    rounds = [
        {name: timed(step, arguments.steps, device) for name, step in steps.items()} for _ in range(arguments.rounds)
    ]
    seconds = {name: round(statistics.median(row[name] for row in rounds), 4) for name in steps}
    speedups = {
        name: round(statistics.median(row["plain_fp32"] / row[name] for row in rounds), 3)
        for name in steps
        if name != "plain_fp32"
    }
    print(
        json.dumps(
            {
                "benchmark": "autoencoder_step",
                "torch": torch.__version__,
                "device": device,
                "threads": torch.get_num_threads(),
                **{name: value for name, value in vars(arguments).items() if name != "no_compile"},
                "seconds_per_step": seconds,
                "speedup_over_plain_fp32": speedups,
            }
        )
    )


def timed(step: Step, count: int, device: str) -> float:
    """Seconds a step."""
    started = time.perf_counter()
    for _ in range(count):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / count


if __name__ == "__main__":
    main()
