"""Settings that a program gives, as specs."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from diffusability.core.errors import DiffusabilityError, SpecError
from diffusability.core.planning.problems import problems_of
from diffusability.core.planning.source import Source
from diffusability.core.specs.base import PluginSpec

Checked = TypeVar("Checked", bound=PluginSpec)


def checked(base: type[Checked], settings: Mapping[str, Any], what: str) -> Checked:
    """The spec that settings describe, its files and packages looked for.

    Args:
        base: the class of its group, such as ``EvaluatorSpec``.
        settings: its fields, ``kind`` among them.
        what: what messages call it.

    Raises:
        SpecError: the kind or a field is unknown or wrong, or a file or package is missing.
    """
    try:
        spec = base.model_validate(dict(settings))
    except ValidationError as error:
        raise problems_of(error, Source(data=dict(settings), marks={}, name=what)) from None
    try:
        spec.check_inputs()
    except DiffusabilityError:
        raise
    except (ValueError, OSError) as error:
        raise SpecError(f"{what}: {error}") from None
    return spec
