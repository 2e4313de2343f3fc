"""What a DiT costs against the number of its tokens: seconds of a forward and backward pass for each sample.

    python benchmarks/dit_tokens.py [--depth 4] [--rounds 3] [--precision auto]

Blocks of the width of DiT-S, eager and compiled, from 64 to 4,096 tokens, with memory of freed tensors kept as ``dfz
run`` does; small samples come in batches, so that a pass has 4,096 tokens. bf16 by autocast where this CPU has
instructions for it, else float32. Prints one line of JSON: for each number of tokens the median seconds and the
bytes that autograd keeps, both of one sample; the exponent fitted to all, and the one between the last two.
"""

import argparse
import json
import math
import statistics
import time

import torch
from torch import Tensor

from diffusability.core.numerics.precision import autocast_dtype, resolve_precision
from diffusability.core.run.freed_memory import keep_freed_memory
from diffusability.models.denoisers.dit import DiT
from diffusability.models.specs.denoisers.dit_architecture import DIT_SIZES, DiTArchitecture

#: Rows and columns of patches.
GRIDS = ((8, 8), (16, 8), (16, 16), (32, 16), (32, 32), (64, 32), (64, 64))
MOST_TOKENS = 4096


def build(rows: int, columns: int, depth: int, compiled: bool) -> DiT:
    """A model for latents of 4 channels, of which the patches have 2x2 pixels; no weight is zero."""
    size = DIT_SIZES["S"]
    torch.manual_seed(0)
    model = DiT(
        DiTArchitecture(
            latent_shape=(4, 2 * rows, 2 * columns),
            num_classes=None,
            depth=depth,
            hidden_size=size.hidden_size,
            num_heads=size.num_heads,
            mlp_size=4 * size.hidden_size,
            patch_size=2,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    if compiled:
        torch._dynamo.reset()  # so that no code is shared with other shapes, and none is made for shapes that vary
        for block in model.repeated_blocks():
            block.compile(dynamic=False)
    return model


def measure(
    rows: int, columns: int, depth: int, compiled: bool, rounds: int, dtype: torch.dtype | None
) -> dict[str, float]:
    """Median seconds of a pass and bytes kept for the backward pass, of one sample."""
    model = build(rows, columns, depth, compiled)
    batch = max(1, MOST_TOKENS // (rows * columns))
    latents, time_ = torch.randn(batch, *model.architecture.latent_shape), torch.rand(batch)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def step() -> float:
        started = time.perf_counter()
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = model(latents, time_, None).square().mean()
        loss.backward()
        return time.perf_counter() - started

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    step()
    seconds = statistics.median(step() for _ in range(rounds))
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return {
        "s_per_sample": round(seconds / batch, 6),
        "kept_mib_per_sample": round((sum(kept.values()) - weights) / batch / 2**20, 2),
    }


def exponent(tokens: list[int], seconds: list[float]) -> float:
    """The slope of a line through the logarithms, by least squares."""
    x, y = [math.log(n) for n in tokens], [math.log(s) for s in seconds]
    middle_x, middle_y = statistics.mean(x), statistics.mean(y)
    covariance = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return round(covariance / sum((a - middle_x) ** 2 for a in x), 3)


def main() -> None:
    """Measures every number of tokens and prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    arguments = parser.parse_args()
    keep_freed_memory()
    precision = resolve_precision(arguments.precision, "cpu")
    dtype = autocast_dtype(precision, "cpu")
    tokens = [rows * columns for rows, columns in GRIDS]
    record: dict[str, object] = {"benchmark": "dit_tokens", "torch": torch.__version__, "depth": arguments.depth}
    for name, compiled in (("eager", False), ("compiled", True)):
        table = [measure(*grid, arguments.depth, compiled, arguments.rounds, dtype) for grid in GRIDS]
        seconds = [row["s_per_sample"] for row in table]
        record[f"{name}_{precision}"] = {
            "by_tokens": {str(count): row for count, row in zip(tokens, table, strict=True)},
            "exponent": exponent(tokens, seconds),
            "exponent_of_last_doubling": exponent(tokens[-2:], seconds[-2:]),
        }
    print(json.dumps(record | {"threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
