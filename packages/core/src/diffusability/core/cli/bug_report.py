"""What is left when an error is nobody's mistake: a file with all that a report of it needs."""

import importlib.metadata
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import TracebackType

#: Libraries whose frames only say how a command was called.
_CALLERS = ("typer", "click", "rich")


def culprit(error: BaseException) -> tuple[str, str]:
    """The package that raised an error, ``diffusability`` or that of a plugin, and the place in it."""
    plugins = _plugin_packages()
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        name = str(frame.f_globals.get("__name__", ""))
        package = name.partition(".")[0]
        if package in plugins:
            return package, f"{name}:{line}"
    return "diffusability", "unknown place"


def _plugin_packages() -> set[str]:
    points = importlib.metadata.entry_points()
    groups = [group for group in points.groups if group.startswith("diffusability.")]
    return {"diffusability"} | {
        point.module.partition(".")[0] for group in groups for point in points.select(group=group)
    }


def without_callers(trace: TracebackType | None) -> TracebackType | None:
    """A traceback that begins behind the frames of the library that parses commands."""
    start = trace
    step = trace
    while step is not None:
        if str(step.tb_frame.f_globals.get("__name__", "")).partition(".")[0] in _CALLERS:
            start = step.tb_next
        step = step.tb_next
        if step is not None and str(step.tb_frame.f_globals.get("__name__", "")).startswith(
            "diffusability.core.cli.app"
        ):
            start = step
    return start or trace


def report_text(error: BaseException) -> str:
    """Command, versions and traceback."""
    lines = [
        f"command: {sys.argv!r}",
        f"python: {platform.python_version()} on {platform.platform()}",
        "packages:",
        *(f"  {name} {version}" for name, version in sorted(_versions().items())),
        "",
        "".join(traceback.format_exception(error.with_traceback(without_callers(error.__traceback__)))),
    ]
    return "\n".join(lines)


def _versions() -> dict[str, str]:
    wanted = ("torch", "deepspeed", "diffusers", "numpy", "pillow", "pydantic", "datasets", "webdataset", "av")
    versions = {}
    for distribution in importlib.metadata.distributions():
        name = str(distribution.metadata["Name"])
        if name.startswith("diffusability") or name in wanted:
            versions[name] = distribution.version
    return versions


def write_report(error: BaseException) -> Path | None:
    """Writes the report into the folder for temporary files; None when that cannot be done."""
    name = f"diffusability-bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        path = Path(tempfile.gettempdir()) / name
        path.write_text(report_text(error), encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None
    return path
