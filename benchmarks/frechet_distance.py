"""Frechet distance at 2,048 dimensions, ours against ``scipy.linalg.sqrtm``, and the memory that accumulating takes.

Both compute ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` of the same covariances, which are of 10,000 random feature
vectors each: ours by symmetric eigenvalue problems, the other as FID has been computed since 2017, by the root of the
product. Beside it, the memory that accumulating features takes, of few and of many batches, in processes of their own.
Prints one line of JSON.

    python benchmarks/frechet_distance.py [--dimensions 2048] [--rounds 3]
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import scipy.linalg
import torch

from diffusability.eval.generation.frechet import frechet_distance
from diffusability.eval.streaming.gaussian_statistics import GaussianStatistics


def features(count, dimensions, seed):
    """Features with correlations and a spectrum that decays, as networks give them."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=generator) / dimensions**0.5
    scales = torch.logspace(0, -2, dimensions)
    return (torch.randn(count, dimensions, generator=generator) * scales) @ mixing + 0.1 * seed


def by_scipy(first_mean, first, second_mean, second):
    """The formula of the TTUR code, with scipy's matrix root."""
    root = scipy.linalg.sqrtm(first @ second)
    if np.iscomplexobj(root):
        root = root.real
    difference = first_mean - second_mean
    return float(difference @ difference + np.trace(first) + np.trace(second) - 2 * np.trace(root))


def fastest(call, rounds):
    """Seconds of the fastest of some calls, and the result."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def accumulate(num_batches, dimensions):
    """Adds that many batches of 64 vectors; returns the peak memory of this process in bytes and seconds per batch."""
    statistics = GaussianStatistics()
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    for _ in range(num_batches):
        statistics.update(torch.randn(64, dimensions, generator=generator))
    seconds = (time.perf_counter() - start) / num_batches
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, seconds


def in_a_process(num_batches, dimensions):
    """``accumulate`` in a fresh process."""
    command = [sys.executable, __file__, "--dimensions", str(dimensions), "--accumulate", str(num_batches)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accumulate", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.accumulate:
        print(json.dumps(accumulate(options.accumulate, options.dimensions)))
        return
    moments = []
    for seed in (0, 1):
        statistics = GaussianStatistics()
        statistics.update(features(10_000, options.dimensions, seed))
        moments += [statistics.mean, statistics.covariance()]
    ours_s, ours = fastest(lambda: frechet_distance(*moments), options.rounds)
    arrays = [moment.numpy() for moment in moments]
    scipy_s, theirs = fastest(lambda: by_scipy(*arrays), max(1, options.rounds - 2))
    few, many = in_a_process(10, options.dimensions), in_a_process(200, options.dimensions)
    result = {
        "benchmark": "frechet_distance",
        "dimensions": options.dimensions,
        "ours_s": round(ours_s, 3),
        "scipy_sqrtm_s": round(scipy_s, 3),
        "speedup": round(scipy_s / ours_s, 2),
        "relative_difference": abs(ours - theirs) / theirs,
        "accumulate_ms_per_batch_of_64": round(1e3 * many[1], 1),
        "peak_bytes_640_vectors": few[0],
        "peak_bytes_12800_vectors": many[0],
        "threads": torch.get_num_threads(),
        "scipy": scipy.__version__,
        "torch": torch.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
