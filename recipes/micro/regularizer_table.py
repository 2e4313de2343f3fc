"""The table of docs/regularizer-study.md, from runs of regularizers.yaml and a line of benchmarks/regularizer_cost.py.

    python recipes/micro/regularizer_table.py runs/regularizers [MORE RUNS...] [--cost cost.json]

Runs of other seeds are averaged; the spread is half of the range between them.
"""

import argparse
import json
import statistics
from pathlib import Path

METRICS = {"psnr": 2, "kl_per_dim": 2, "high_frequency_share": 3, "chop_off_area": 2}
#: The benchmark's name of a variant, where it is another.
COSTS = {
    "kl-target": "kl target",
    "decoder-lipschitz": "decoder-lipschitz difference",
    "spectrum-encoding": "spectrum-matching encoding",
    "spectrum-decoding": "spectrum-matching decoding",
}


def cell(values: list[float], digits: int) -> str:
    """The mean, and half of the range where there are several."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ±{(max(values) - min(values)) / 2:.{digits}f}"


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--cost", type=Path)
    arguments = parser.parse_args()
    runs = [json.loads((run / "results.json").read_text())["variants"] for run in arguments.runs]
    costs = json.loads(arguments.cost.read_text())["processor_time_ratio"] if arguments.cost else {}
    print("| fine-tuned with | PSNR, dB | KL per dim, nats | high-frequency share | chop-off area | cost of a step |")
    print("| --- | --- | --- | --- | --- | --- |")
    for variant in runs[0]:
        cells = [
            cell([run[variant]["measure"][metric]["value"] for run in runs], digits)
            for metric, digits in METRICS.items()
        ]
        ratio = 1.0 if variant == "control" else costs.get(COSTS.get(variant, variant))
        print(f"| {variant} | {' | '.join(cells)} | {'' if ratio is None else f'{ratio:.2f}x'} |")


if __name__ == "__main__":
    main()
