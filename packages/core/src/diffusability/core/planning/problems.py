"""Turns pydantic's validation errors into problems that name file, line, path and what was expected."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from diffusability.core.errors import Problem, SpecError
from diffusability.core.planning.source import Source

_OWN = {"spec", "unknown_key", "value_error", "assertion_error"}


def problems_of(error: ValidationError, source: Source) -> SpecError:
    """All that a validation found wrong, with the place of each in the source."""
    return SpecError([_problem(details, source) for details in error.errors(include_url=False)])


def _problem(details: ErrorDetails, source: Source) -> Problem:
    path = tuple(step for step in details["loc"])
    message = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if details["type"] == "missing":
        message = f"missing key {path[-1]!r}"
        place = source.locate(path[:-1])
    else:
        place = source.locate(path)
        if details["type"] not in _OWN:
            message = f"{message[0].lower()}{message[1:]}, got {details['input']!r}"
    first, _, hint = message.partition("; ")
    return Problem(first, ".".join(map(str, path)), place, hint)
