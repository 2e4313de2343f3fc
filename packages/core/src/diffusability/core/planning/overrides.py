"""What ``--set`` changes: of which variants, and as part of a spec that says the same without a command line."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from diffusability.core.planning.overlay import RIVALS, override
from diffusability.core.planning.source import Source, parse_source
from diffusability.core.specs.table import KEY as TABLE

#: Top-level keys that do not belong to a variant.
_OF_THE_RUN = ("name", TABLE)


def is_of_the_run(assignment: str) -> bool:
    """Whether a ``path=value`` changes what all variants share by their nature: the run's name, or its table."""
    return re.split(r"[.=]", assignment.strip(), maxsplit=1)[0].strip() in _OF_THE_RUN


def is_meant(base: str, names: Sequence[str]) -> bool:
    """Whether a variant of the spec is among those named on a command line, itself or by one of its seeds."""
    return not names or any(name == base or re.fullmatch(rf"{re.escape(base)}-seed\d+", name) for name in names)


def with_overrides(source: Source, overrides: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A spec's data with the changes of each variant written into it.

    Args:
        source: the spec, laid over what it extends.
        overrides: ``path=value`` changes by variant of the spec.
    """
    common = list(
        dict.fromkeys(change for changes in overrides.values() for change in changes if is_of_the_run(change))
    )
    if "variants" not in source.data:
        common = list(dict.fromkeys(change for changes in overrides.values() for change in changes))
    for assignment in common:
        source = override(source, assignment)
    data: dict[str, Any] = copy.deepcopy(source.data)
    for variant, changes in overrides.items() if "variants" in data else ():
        own = dict(data["variants"].get(variant) or {})
        for assignment in changes:
            if is_of_the_run(assignment):
                continue
            path, _, text = assignment.partition("=")
            key = path.strip()
            for replaced in (key, RIVALS.get(key)):
                own.pop(replaced, None)
            own[key] = parse_source(text, f"--set {key}").data  # last, so that it is laid over the others
        data["variants"][variant] = own
    return data
