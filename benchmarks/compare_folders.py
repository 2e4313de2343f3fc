"""``dfz compare`` against torch-fidelity on the same folders: FID, KID, precision and recall in one network's features.

Both read the same PNG files, run torch-fidelity's Inception with the same (random) weights at equal batch, and compute
the same numbers, in turn; the ratio is of the fastest rounds. Once without the spread of the Frechet distance, which
torch-fidelity does not have, and once with it. Prints one line of JSON.

    python benchmarks/compare_folders.py [--images 256] [--side 64] [--layer 768] [--rounds 2] [--device cpu]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import torch
import torch_fidelity
from PIL import Image
from torch_fidelity import FeatureExtractorInceptionV3

from diffusability.core.scoring.comparison import ComparisonOptions, compare_images


def write_weights(path):
    """Random weights in torch-fidelity's layout."""
    torch.manual_seed(0)
    with (
        patch("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", return_value={}),
        patch.object(FeatureExtractorInceptionV3, "load_state_dict"),
    ):
        torch.save(FeatureExtractorInceptionV3("inception", ["2048"]).state_dict(), path)
    return path


def write_images(folder, count, side, seed):
    """Smooth random images."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    for index in range(count):
        coarse = torch.rand(1, 3, 8, 8, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")[0]
        pixels = (smooth * (255 - 20 * seed)).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{index:05d}.png")
    return folder


def theirs(real, generated, weights, arguments):
    """torch-fidelity's numbers."""
    layers = {f"feature_layer_{metric}": arguments.layer for metric in ("fid", "kid", "prc")}
    return torch_fidelity.calculate_metrics(
        input1=str(generated),
        input2=str(real),
        cuda=arguments.device != "cpu",
        fid=True,
        kid=True,
        prc=True,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(weights),
        kid_subset_size=min(1000, arguments.images),
        kid_subsets=100 if arguments.images >= 1000 else 1,
        batch_size=arguments.batch_size,
        cache=False,
        verbose=False,
        **layers,
    )


def ours(real, generated, weights, arguments, with_spread):
    """The numbers of ``dfz compare``, by metric; FDr has networks of its own and needs more images than these."""
    comparison = compare_images(
        ComparisonOptions(
            real=real,
            generated=generated,
            features=(f"inception:layer={arguments.layer},weights={weights}",),
            batch_size=arguments.batch_size,
            with_spread=with_spread,
            num_workers=0 if arguments.device == "cpu" else 8,
            device=arguments.device,
            only=("frechet", "kid", "precision-recall"),
        )
    )
    return {result.metric: result.value for result in comparison.results}


def main():
    """Times both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--layer", default="768")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    seconds = {"torch_fidelity": [], "ours": [], "ours_with_spread": []}
    with tempfile.TemporaryDirectory() as root:
        weights = write_weights(Path(root) / "inception.pth")
        real, generated = (
            write_images(Path(root) / name, arguments.images, arguments.side, seed)
            for seed, name in enumerate(("real", "generated"))
        )
        calls = {
            "torch_fidelity": lambda: theirs(real, generated, weights, arguments),
            "ours": lambda: ours(real, generated, weights, arguments, False),
            "ours_with_spread": lambda: ours(real, generated, weights, arguments, True),
        }
        by_library = {}
        for _ in range(arguments.rounds):
            for name, call in calls.items():
                start = time.perf_counter()
                by_library[name] = call()
                seconds[name].append(time.perf_counter() - start)
    fastest = {name: min(times) for name, times in seconds.items()}
    distance = next(
        value for name, value in by_library["ours"].items() if name in ("fid", f"frechet_inception_{arguments.layer}")
    )
    print(
        json.dumps(
            {
                "benchmark": "compare_folders",
                "images": 2 * arguments.images,
                "layer": arguments.layer,
                "device": arguments.device,
                **{f"{name}_s": round(value, 2) for name, value in fastest.items()},
                "speedup": round(fastest["torch_fidelity"] / fastest["ours"], 3),
                "speedup_with_spread": round(fastest["torch_fidelity"] / fastest["ours_with_spread"], 3),
                "distance": distance,
                "torch_fidelity_distance": by_library["torch_fidelity"]["frechet_inception_distance"],
            }
        )
    )


if __name__ == "__main__":
    main()
