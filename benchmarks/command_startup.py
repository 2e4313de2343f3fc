"""How soon the command line answers: ``dfz --help``, ``dfz plugins``, ``dfz check examples/quickstart.yaml``.

    python benchmarks/command_startup.py [--rounds 5]

Prints one line of JSON: the median seconds of each as a whole process.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "help": ["--help"],
    "plugins": ["plugins"],
    "check": ["check", str(ROOT / "examples" / "quickstart.yaml")],
}


def seconds(arguments: list[str]) -> float:
    """Wall-clock time of one process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "diffusability.core.cli", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Times each command in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    medians = {f"{name}_s": round(statistics.median(values), 3) for name, values in times.items()}
    print(json.dumps({"benchmark": "command_startup", **medians}))


if __name__ == "__main__":
    main()
