"""Imports all modules of the project and what they import late; the server of ``forked_processes`` does so once.

Its forks leave figures empty.
"""

import gc
import importlib
import logging
import os
import pkgutil
import subprocess
import warnings

from empty_figures import leave_figures_empty
from forked_processes import ForkingPopen

subprocess.Popen = ForkingPopen

#: What is imported inside functions, by the project, torch or DeepSpeed, once a run is at work.
LATE = (
    "deepspeed.ops.adam",
    "torch._dynamo",
    "torch.distributed.elastic.multiprocessing",
    "torch.distributed.run",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "numpy.random",
    "random",
    "scipy.stats",
)

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
silenced = os.dup(1)
os.dup2(2, 1)  # DeepSpeed logs to the standard output
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for name in LATE:
        importlib.import_module(name)
    for package in ("core", "models", "regularizers", "eval"):
        parent = importlib.import_module(f"diffusability.{package}")
        for module in pkgutil.walk_packages(parent.__path__, parent.__name__ + "."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
os.dup2(silenced, 1)
os.close(silenced)
leave_figures_empty()
gc.collect()
gc.freeze()
