"""What each regularizer adds to a training step, over the same step without any (the control).

    python benchmarks/regularizer_cost.py [--resolution 256] [--width 32] [--batch 1] [--rounds 6] [--steps 2]

The autoencoder is Flux's (diffusers' AutoencoderKL: four levels, 16 latent channels, factor 8) at a reduced width, with
random weights, in bf16 autocast; a step is forward, backward and fused AdamW. All are timed in turns within each round,
so that a machine whose speed drifts slows all. Steps go on from round to round, so that what acts in some steps only,
or draws a factor, is averaged over ``rounds * steps`` steps. Prints one line of JSON: mean seconds a step of the
control, and for each regularizer the mean over all steps divided by it, the median of the ratios round by round, and
the ratio of processor time, which other programs on the machine disturb least.
Needs ``diffusers``; ``representation-alignment`` needs a feature extractor's weights, and is left out without them.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.task import TrainTask
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.specs.base import PluginSpec
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import ObjectiveSpec, RegularizerSpec

ALIGNMENT = {"kind": "representation-alignment", "features": {"kind": "efficientnet-lite0"}}

#: By name in the output. The step at which all start lies before one in which adaptive weights are measured.
REGULARIZERS: dict[str, dict[str, Any]] = {
    "scale-equivariance": {"kind": "scale-equivariance"},
    "scale-equivariance all": {"kind": "scale-equivariance", "each_step": "all"},
    "kl": {"kind": "kl"},
    "kl target": {"kind": "kl", "target": 1.0},
    "frequency-chop": {"kind": "frequency-chop"},
    "high-frequency-penalty": {"kind": "high-frequency-penalty"},
    "decoder-lipschitz difference": {"kind": "decoder-lipschitz"},
    "decoder-lipschitz gradient": {"kind": "decoder-lipschitz", "estimate": "gradient"},
    "equivariance": {"kind": "equivariance"},
    "representation-alignment": ALIGNMENT,
    "local-correlation": {"kind": "local-correlation"},
    "latent-masking": {"kind": "latent-masking"},
    "spectrum-matching encoding": {"kind": "spectrum-matching"},
    "spectrum-matching decoding": {"kind": "spectrum-matching", "match": "decoding"},
    "variance-expansion": {"kind": "variance-expansion"},
    "latent-noise": {"kind": "latent-noise"},
    "channel-dropout": {"kind": "channel-dropout"},
    "velocity-variance": {"kind": "velocity-variance"},
}
FIRST_STEP = 5


def flux_config(width: int) -> dict[str, Any]:
    """The configuration of Flux's autoencoder, of whose 128 channels at full resolution ``width`` are left."""
    blocks = [width, 2 * width, 4 * width, 4 * width]
    return {
        "_class_name": "AutoencoderKL",
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": blocks,
        "layers_per_block": 2,
        "latent_channels": 16,
        "norm_num_groups": min(32, width),
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "shift_factor": 0.1159,
        "scaling_factor": 0.3611,
    }


def step_of(fields: dict[str, Any] | None, arguments: argparse.Namespace) -> Callable[[int], tuple[float, float]]:
    """A function that trains one numbered step and returns its seconds, by the clock and of the processor."""
    autoencoder = {"kind": "diffusers", "config": flux_config(arguments.width)}
    shape = (3, arguments.resolution, arguments.resolution)
    info = AutoencoderInfo(latent_channels=16, spatial_factor=8)
    context = BuildContext(autoencoder=info, image_shape=shape, latent_shape=info.latent_shape(shape))
    torch.manual_seed(0)
    objective = ObjectiveSpec.model_validate({"kind": "reconstruction", "autoencoder": autoencoder}).build(context)
    specs = () if fields is None else (RegularizerSpec.model_validate(fields),)
    task = TrainTask(objective, {spec.label: spec.build(context) for spec in specs}, specs, torch.bfloat16)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task.to(device).train()
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-5, fused=True)
    images = torch.randn(arguments.batch, *shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1).to(device)

    def step(number: int) -> tuple[float, float]:
        randomness = BatchRandomness(seed=0, step=number, positions=range(arguments.batch))
        started, worked = time.perf_counter(), time.process_time()
        task(Batch(data=images, labels=None, randomness=randomness)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started, time.process_time() - worked

    return step


def available(names: list[str]) -> tuple[list[str], list[str]]:
    """The names whose inputs are there, and those whose are not."""
    missing = []
    for name in names:
        try:
            for _, part in RegularizerSpec.model_validate(REGULARIZERS[name]).walk():
                if isinstance(part, PluginSpec):
                    part.check_inputs()
        except ValueError:
            missing.append(name)
    return [name for name in names if name not in missing], missing


def main() -> None:
    """Times all in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(REGULARIZERS), default=list(REGULARIZERS))
    arguments = parser.parse_args()
    names, missing = available(arguments.only)
    steps = {"control": step_of(None, arguments)} | {name: step_of(REGULARIZERS[name], arguments) for name in names}
    for step in steps.values():
        step(0)  # warm-up; adaptive weights are measured here for the first time
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    work: dict[str, float] = dict.fromkeys(steps, 0.0)
    for round_number in range(arguments.rounds):
        first = FIRST_STEP + round_number * arguments.steps
        for name, step in steps.items():
            times = [step(first + more) for more in range(arguments.steps)]
            seconds[name].append(statistics.mean(clock for clock, _ in times))
            work[name] += sum(processor for _, processor in times)
    control, control_work = seconds.pop("control"), work.pop("control")
    report = {
        "benchmark": "regularizer_cost",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "resolution": arguments.resolution,
        "width": arguments.width,
        "batch": arguments.batch,
        "steps_timed": arguments.rounds * arguments.steps,
        "control_s_per_step": round(statistics.mean(control), 4),
        "mean_ratio": {
            name: round(statistics.mean(times) / statistics.mean(control), 3) for name, times in seconds.items()
        },
        "median_ratio": {
            name: round(statistics.median(mine / base for mine, base in zip(times, control, strict=True)), 3)
            for name, times in seconds.items()
        },
        "processor_time_ratio": {name: round(value / control_work, 3) for name, value in work.items()},
        "left_out": missing,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
