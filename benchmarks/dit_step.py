"""A training step of our DiT against the same architecture built from timm's blocks, as the original code builds it.

    python benchmarks/dit_step.py [--sizes S/2 B/2] [--rounds 3] [--precisions fp32 bf16]

Latents of 4x32x32, batch 8, 1000 classes; forward, backward and fused AdamW for both. The original's model runs
eagerly, as its users run it and with memory of freed tensors kept (``diffusability.core.run.freed_memory``), which
``dfz run`` does; ours eagerly and compiled, with memory kept. Each has a process of its own; they take turns, so that a
machine whose speed drifts slows all of them. Prints one line of JSON: for each size the median seconds a
step, the median of the ratios round by round, the share of a large matmul's FLOP/s (measured in the same rounds), and
the memory that a step takes beyond weights and optimizer state. bf16, by autocast, is left out by default where this
CPU has no instructions for it. Needs ``timm``.
"""

import argparse
import ctypes
import gc
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from timm.models.vision_transformer import Attention, Mlp, PatchEmbed
from torch import Tensor, nn

from diffusability.core.numerics.precision import multiplies_bf16
from diffusability.core.run.freed_memory import keep_freed_memory
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.denoisers.positions import grid_positions, time_frequencies
from diffusability.models.specs.denoisers.dit import DIT_SIZES, DiTSpec

BATCH, SHAPE, NUM_CLASSES = 8, (4, 32, 32), 1000
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class TimmBlock(nn.Module):
    """A block as in Peebles & Xie's code: timm's attention and MLP, modulated by a linear map of its own."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(size, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(size, num_heads=heads, qkv_bias=True)
        self.norm2 = nn.LayerNorm(size, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(size, 4 * size, act_layer=lambda: nn.GELU(approximate="tanh"))
        self.adaln = nn.Sequential(nn.SiLU(), nn.Linear(size, 6 * size))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Tokens of the same shape."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaln(c)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class TimmDiT(nn.Module):
    """The original's model, with the latents' channels as output."""

    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        size, patch = spec.hidden_size, spec.patch_size
        self.patch = patch
        self.embed = PatchEmbed(SHAPE[1], patch, SHAPE[0], size)
        self.register_buffer("positions", grid_positions((SHAPE[1] // patch, SHAPE[2] // patch), size))
        self.time = nn.Sequential(nn.Linear(256, size), nn.SiLU(), nn.Linear(size, size))
        self.label = nn.Embedding(NUM_CLASSES + 1, size)
        self.blocks = nn.ModuleList(TimmBlock(size, spec.num_heads) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(size, elementwise_affine=False, eps=1e-6)
        self.adaln = nn.Sequential(nn.SiLU(), nn.Linear(size, 2 * size))
        self.linear = nn.Linear(size, SHAPE[0] * patch**2)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The prediction."""
        rows = SHAPE[1] // self.patch
        x = self.embed(x) + self.positions
        c = self.time(time_frequencies(t, 256)) + self.label(y)
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.adaln(c)[:, None].chunk(2, dim=2)
        x = self.linear(self.norm(x) * (1 + scale) + shift)
        x = x.reshape(len(x), rows, rows, self.patch, self.patch, SHAPE[0])
        return torch.einsum("nhwpqc->nchpwq", x).reshape(len(x), *SHAPE)


def forward_flops(size: str) -> float:
    """Multiply-adds of a forward pass times two: linear maps of the tokens, attention, and the modulation."""
    name, _, patch = size.partition("/")
    shape = DIT_SIZES[name]
    d, tokens = shape.hidden_size, (SHAPE[1] // int(patch)) * (SHAPE[2] // int(patch))
    per_block = 2 * 12 * d * d * tokens + 4 * tokens * tokens * d + 2 * 6 * d * d
    return float(BATCH * shape.depth * per_block)


def steps_of(model: nn.Module) -> dict[str, Callable[[], None]]:
    """A training step of a model on fixed data, at each precision."""
    generator = torch.Generator().manual_seed(0)
    latents, target = (torch.randn(BATCH, *SHAPE, generator=generator) for _ in range(2))
    time_, labels = torch.rand(BATCH, generator=generator), torch.randint(NUM_CLASSES, (BATCH,), generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0, fused=True)

    def step(autocast: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            prediction = model(latents, time_, labels)
        (prediction.float() - target).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return {"fp32": partial(step, False), "bf16": partial(step, True)}


def ours(size: str, compiled: bool) -> nn.Module:
    """Our DiT with weights that are not zero."""
    torch.manual_seed(0)
    model = DiTSpec(size=size).build(BuildContext(latent_shape=SHAPE, num_classes=NUM_CLASSES))
    if compiled:
        for block in model.repeated_blocks():
            block.compile()
    return model


def matmul_flops_per_s(dtype: torch.dtype, side: int = 2048) -> float:
    """The best of a few products of two large square matrices."""
    a, b = torch.randn(side, side, dtype=dtype), torch.randn(side, side, dtype=dtype)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def step_memory(step: Callable[[], None]) -> int | None:
    """Bytes by which the resident memory peaks during a step, above what it is before; None where Linux is not."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def timed(step: Callable[[], None]) -> float:
    """Seconds of a call."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


#: What is timed: whether memory is kept, and the model.
WAYS: dict[str, tuple[bool, Callable[[str], nn.Module]]] = {
    "timm_eager": (False, lambda size: TimmDiT(DiTSpec(size=size))),
    "timm_eager_kept": (True, lambda size: TimmDiT(DiTSpec(size=size))),
    "ours_eager": (True, partial(ours, compiled=False)),
    "ours_compiled": (True, partial(ours, compiled=True)),
}


def work(way: str, size: str, precisions: Sequence[str], pipe: Connection) -> None:
    """Answers with the memory of a step at each precision, then with a step's seconds for each word that comes."""
    kept, build = WAYS[way]
    if kept:
        assert keep_freed_memory(), "malloc is not glibc's, or the environment has settings for it"
    torch.set_float32_matmul_precision("highest")
    torch.manual_seed(0)
    steps = steps_of(build(size))
    for precision in precisions:
        steps[precision]()
    pipe.send({precision: step_memory(steps[precision]) for precision in precisions})
    while (precision := pipe.recv()) is not None:
        pipe.send(timed(steps[precision]))


def measure(size: str, rounds: int, precisions: Sequence[str]) -> dict[str, object]:
    """All ways of one size."""
    spawning = multiprocessing.get_context("spawn")
    pipes, memory = {}, {}
    for way in WAYS:
        pipes[way], other = spawning.Pipe()
        spawning.Process(target=work, args=(way, size, precisions, other), daemon=True).start()
        memory[way] = pipes[way].recv()
    times: list[dict[str, float]] = []
    peaks: list[dict[str, float]] = []
    for _ in range(rounds):
        peaks.append({word: matmul_flops_per_s(DTYPES[word]) for word in precisions})
        row = {}
        for way, pipe in pipes.items():
            for precision in precisions:
                pipe.send(precision)
                row[f"{way}_{precision}"] = pipe.recv()
        times.append(row)
    for pipe in pipes.values():
        pipe.send(None)

    def ratio(slow: str, fast: str) -> float:
        return round(statistics.median(row[slow] / row[fast] for row in times), 3)

    def share(name: str, precision: str) -> float:
        reached = [
            3 * forward_flops(size) / row[name] / peak[precision] for row, peak in zip(times, peaks, strict=True)
        ]
        return round(statistics.median(reached), 3)

    ours_by_default = f"ours_compiled_{precisions[-1]}"
    speedup = {
        f"default_over_{slow}_{precision}": ratio(f"{slow}_{precision}", ours_by_default)
        for precision in precisions
        for slow in ("timm_eager", "timm_eager_kept")
    }
    speedup |= {
        f"{fast}_over_timm_eager_kept_{precision}": ratio(f"timm_eager_kept_{precision}", f"{fast}_{precision}")
        for precision in precisions
        for fast in ("ours_eager", "ours_compiled")
    }
    return {
        "s_per_step": {name: round(statistics.median(row[name] for row in times), 3) for name in times[0]},
        "speedup": speedup,
        "matmul_gflops_per_s": {word: round(statistics.median(p[word] for p in peaks) / 1e9) for word in precisions},
        "share_of_matmul": {
            f"{way}_{precision}": share(f"{way}_{precision}", precision) for way in WAYS for precision in precisions
        },
        "step_memory_mib": {
            f"{way}_{precision}": value and round(value / 2**20)
            for way, by_precision in memory.items()
            for precision, value in by_precision.items()
        },
    }


def main() -> None:
    """Measures each size and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["S/2", "B/2"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--precisions", nargs="+", choices=DTYPES, default=list(DTYPES) if multiplies_bf16("cpu") else ["fp32"]
    )
    arguments = parser.parse_args()
    by_size = {size: measure(size, arguments.rounds, arguments.precisions) for size in arguments.sizes}
    print(
        json.dumps({"benchmark": "dit_step", "torch": torch.__version__, "threads": torch.get_num_threads(), **by_size})
    )


if __name__ == "__main__":
    main()
