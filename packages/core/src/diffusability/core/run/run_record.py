"""``run.json``, the record of a run: the one place that reads it. Free of torch."""

from pathlib import Path
from typing import Any

from diffusability.core.errors import SpecError
from diffusability.core.reading import parsed_json

RECORD = "run.json"
_EXPECTED = "expected a folder that 'dfz run' wrote, such as 'runs/quickstart'"


def is_run(directory: Path) -> bool:
    """Whether a folder is that of a run, finished or not."""
    return (directory / RECORD).is_file()


def read_record(directory: Path) -> dict[str, Any]:
    """The record of a run. What its entries hold is for the reader to check.

    Raises:
        SpecError: the folder does not exist, has no record, or the record is not a JSON object.
    """
    path = directory / RECORD
    if not directory.is_dir():
        raise SpecError(f"there is no run folder {str(directory)!r}; {_EXPECTED}")
    try:
        record = parsed_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{str(directory)!r} is not a run folder: {RECORD} is missing; {_EXPECTED}") from None
    except (OSError, ValueError) as error:
        raise SpecError(f"{str(path)!r} cannot be read as JSON: {error}; {_EXPECTED}") from None
    if not isinstance(record, dict):
        raise SpecError(f"{str(path)!r} holds {type(record).__name__}, expected an object; {_EXPECTED}")
    return record


def readable_record(directory: Path) -> dict[str, Any]:
    """The record of a run; empty where there is none that can be read."""
    try:
        return read_record(directory)
    except SpecError:
        return {}
