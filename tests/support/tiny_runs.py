"""A spec of every organ that trains within seconds, and ways to run it."""

import json
import os
import sys
from pathlib import Path
from subprocess import CompletedProcess

import yaml
from forked_processes import ForkedProcess
from rich.console import Console

from diffusability.core.planning.check import check
from diffusability.core.planning.plan import load_plan, select
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.stages.runner import run

#: Fields of a line of metrics that measure time or memory.
TIMINGS = ("samples_per_s", "step_time_s", "data_wait_s", "memory_bytes")

TINY = """
name: tiny
data: {kind: sample-photos, resolution: 32}
engine: {precision: fp32}
stages:
  pretrain:
    kind: train
    objective:
      kind: reconstruction
      autoencoder: {kind: compact-kl, latent_channels: 4, spatial_factor: 4, width: 16, blocks: 1}
    regularizers: [{kind: kl, weight: 1.0e-4}, {kind: scale-equivariance, factors: [2, 4]}]
    optimizer: {lr: 1.0e-3, eps: 1.0e-6}  # with 1e-8, Adam's first steps turn rounding into signs
    learning_rate: {warmup_steps: 3, decay: cosine}
    batch_size: 4
    steps: 12
    log_every: 1
    ema: {half_life_steps: 2}
    checkpoint: {every: 5}
    preview: {every: 6, num_images: 4}
  measure:
    kind: evaluate
    autoencoder: {kind: stage, stage: pretrain}
    evaluators: [{kind: psnr, num_samples: 16}, {kind: dct-spectrum, num_samples: 16}, {kind: chop-off, num_samples: 8}]
  encode: {kind: encode, autoencoder: {kind: stage, stage: pretrain}, num_samples: 24, shard_size: 10, precision: fp32}
  dit:
    kind: train
    data: {kind: latents, stage: encode}
    objective: {kind: flow-matching, denoiser: {kind: dit, size: Ti/4}}
    optimizer: {lr: 1.0e-3, eps: 1.0e-6}
    batch_size: 4
    steps: 6
    log_every: 1
    ema: {half_life_steps: 2}
    checkpoint: {every: 2}
    preview: {every: 6, num_images: 2}
    evaluate: {every: 3, evaluators: [{kind: sliced-wasserstein, num_samples: 4}], sampler: {kind: euler, steps: 2}}
  generate:
    kind: evaluate
    denoiser: {kind: stage, stage: dit}
    sampler: {kind: euler, steps: 3}
    evaluators: [{kind: sliced-wasserstein, num_samples: 8}]
"""


def tiny_spec():
    """The tiny spec as plain data, to be changed by a test."""
    return yaml.safe_load(TINY)


def write_spec(folder, content):
    """Writes a spec file and returns its path."""
    path = Path(folder) / "spec.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def run_here(path, runs, *overrides, until=None):
    """Runs a spec in this process, through the type-checked code; returns its plan and its folder."""
    plan = load_plan(path, overrides)
    check(plan)
    folder = RunFolder(Path(runs) / plan.name)
    with folder.locked():
        run(plan, select(plan, [], until), folder, Console(quiet=True), "dfz run")
    return plan, folder


def start_dfz(*arguments, cwd=None, separate_errors=False, new_session=False, anew=False, **environment):
    """Starts the command as a process of its own, whose output is kept; see ``ForkedProcess``."""
    command = [sys.executable, "-m", "diffusability.core.cli", *map(str, arguments)]
    return ForkedProcess(command, {**os.environ, **environment}, cwd, separate_errors, new_session, anew)


def dfz(*arguments, cwd=None, check_code=0, anew=False, **environment):
    """Runs the command as a process of its own."""
    process = start_dfz(*arguments, cwd=cwd, separate_errors=True, anew=anew, **environment)
    output, errors = process.communicate(timeout=600)
    if check_code is not None:
        assert process.returncode == check_code, output + errors
    return CompletedProcess(arguments, process.returncode, output, errors)


def metrics(folder, stage):
    """The lines of a stage's metrics without what measures time."""
    (path,) = Path(folder).glob(f"stages/{stage}-*/metrics.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMINGS} for line in lines]
