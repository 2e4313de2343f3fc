"""The user's own autoencoders on a command line: ``my_autoencoder.py:build``."""

import re
from typing import Any

from diffusability.core.errors import SpecError
from diffusability.core.planning.source import parse_source

_REFERENCE = re.compile(r"(?:(?P<label>[\w-]+):)?(?P<file>[^,]*?\.py):(?P<name>\w+)(?:,(?P<options>.*))?")
#: What stands beside the options in the spec; everything else after a comma is an option of the call.
_FIELDS = ("checkpoint", "probe")


def python_reference(reference: str) -> tuple[str, dict[str, Any]] | None:
    """A label and the spec for ``[LABEL:]FILE.py:NAME[,checkpoint=FILE][,option=value]``; None for anything else.

    Raises:
        SpecError: what follows a comma is not an option, or the name in the file is missing.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        if reference.partition(",")[0].endswith(".py"):
            raise SpecError(f"autoencoder {reference!r} names a file; expected FILE.py:NAME, such as {reference}:build")
        return None
    fields: dict[str, Any] = {"kind": "python", "target": f"{match['file']}:{match['name']}"}
    options: dict[str, Any] = {}
    for option in filter(None, option_parts(match["options"] or "")):
        name, equals, value = option.partition("=")
        if not equals:
            raise SpecError(f"{option!r} in {reference!r} is not an option; expected name=value")
        (fields if name.strip() in _FIELDS else options)[name.strip()] = parse_source(value, option).data
    if options:
        fields["options"] = options
    label = match["label"] or re.sub(r".*/", "", match["file"]).removesuffix(".py")
    return label, fields


def option_parts(text: str) -> list[str]:
    """A text split at its commas, except those within brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "{[(") - (letter in "}])")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
