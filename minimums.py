"""The lowest version of every dependency that the packages allow, as pins for ``nox -s minimums``."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

#: Extras with a session of their own: their libraries do not install beside the lowest versions of the others.
APART = ("mlflow", "trackio")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(.*)")


def lowest(requirement: str) -> tuple[str, str]:
    """Name and lowest version of ``name>=1.2,<2``.

    Raises:
        ValueError: it names no lowest version.
    """
    match = _REQUIREMENT.fullmatch(requirement.partition(";")[0].strip())
    bounds = [] if match is None else re.findall(r"(?:>=|==|~=)\s*([0-9][^,\s]*)", match[2])
    if match is None or not bounds:
        raise ValueError(f"{requirement!r} names no lowest version; expected something like 'name>=1.2'")
    return match[1].lower().replace("_", "-"), bounds[0]


def pins(projects: Iterable[Path]) -> list[str]:
    """``name==version`` for every dependency of these pyproject files; of several minimums the highest.

    Extras count too, but for those of ``APART``.
    """
    versions: dict[str, str] = {}
    for project in projects:
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        optional = table.get("optional-dependencies", {})
        extras = [line for extra, lines in optional.items() if extra not in APART for line in lines]
        for requirement in (*table.get("dependencies", ()), *extras):
            if requirement.startswith("diffusability"):
                continue
            name, version = lowest(requirement)
            versions[name] = max(versions.get(name, version), version, key=_numbers)
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
