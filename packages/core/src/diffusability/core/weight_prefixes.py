"""Names of weights as wrappers leave them: ``module.``, ``_orig_mod.``, ``ema.``, ``first_stage_model.`` and others."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from diffusability.core.errors import CheckpointError

Value = TypeVar("Value")


def prefix_of(names: Collection[str], expected: Collection[str], where: Path | str) -> str:
    """What stands before the expected names; empty when they stand there as they are, or nowhere.

    A prefix is taken when every expected name is found behind it. Of a model and its moving average in one file, the
    average is taken.

    Raises:
        CheckpointError: the weights stand there several times, and nothing tells which are meant.
    """
    present = set(names)
    if not expected or present & set(expected):
        return ""
    marker = max(expected, key=len)
    prefixes = {name.removesuffix(marker) for name in present if name.endswith(f".{marker}")}
    whole = [prefix for prefix in sorted(prefixes) if all(prefix + name in present for name in expected)]
    averages = [prefix for prefix in whole if "ema" in prefix.lower()]
    if len(whole) > 1 and len(averages) != 1:
        under = ", ".join(map(repr, whole))
        raise CheckpointError(
            f"{str(where)!r} holds these weights several times, under {under}; keep one of them in a file of its own"
        )
    return (averages or whole or [""])[0]


def without_prefix(weights: Mapping[str, Value], expected: Collection[str], where: Path | str) -> dict[str, Value]:
    """The weights under the expected names: a prefix of all of them is stripped, which is said on stderr.

    Weights without that prefix are of something else, and left out. Without any prefix, the same weights.

    Raises:
        CheckpointError: the weights stand there several times, and nothing tells which are meant.
    """
    prefix = prefix_of(weights, expected, where)
    if not prefix:
        return dict(weights)
    kept = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    left = len(weights) - len(kept)
    rest = f"; {left} tensors without it are left out" if left else ""
    print(f"note: {str(where)!r}: the prefix {prefix!r} of the names is stripped{rest}", file=sys.stderr)
    return kept
