"""A program for one of several ranks: runs a spec with overrides through ``dfz run``'s code."""

import sys
from pathlib import Path

from diffusability.core.cli.run_command import run_spec
from diffusability.core.engine import distributed

if __name__ == "__main__":
    spec, runs, *overrides = sys.argv[1:]
    run_spec(Path(spec), [], None, overrides, 1, Path(runs))
    distributed.start().barrier()
