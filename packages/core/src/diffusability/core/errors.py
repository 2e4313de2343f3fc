"""The few errors that a user's mistake or a broken environment can raise."""

from collections.abc import Sequence
from difflib import get_close_matches

import attrs


@attrs.frozen
class Problem:
    """One thing that is wrong with a spec: what, where, and what was expected."""

    message: str
    path: str = ""
    location: str = ""
    hint: str = ""

    def __str__(self) -> str:
        text = self.message
        if self.path:
            text += f" at {self.path}"
        if self.location:
            text += f" ({self.location})"
        if self.hint:
            text += f"; {self.hint}"
        return text


class DiffusabilityError(Exception):
    """Base of all errors that are shown to users without a traceback."""

    exit_code = 1


class SpecError(DiffusabilityError):
    """The spec or the command line is wrong; nothing was started or written."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = [Problem(problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PluginError(DiffusabilityError):
    """A plugin is unknown, registered twice, fails to import, or is of the wrong class."""

    exit_code = 2


class RunLockedError(DiffusabilityError):
    """Another process is running in the same run folder."""

    exit_code = 2


class MissingPackageError(DiffusabilityError, ValueError):
    """A library is not installed; says which extra brings it. As a ValueError, it is a finding of ``dfz check``."""

    exit_code = 2


class DataError(DiffusabilityError):
    """Data that cannot be read, or not enough of it."""


class NotFiniteError(DataError):
    """Numbers that are NaN or infinite, from data, from a model or as a metric."""


class CheckpointError(DiffusabilityError):
    """A checkpoint or a saved model that cannot be read or does not fit."""


class TrainingError(DiffusabilityError):
    """Training cannot continue, for example because the loss is not finite."""


class RankLostError(DiffusabilityError):
    """Another rank has ended, so that this one cannot continue; that rank says why."""


class StoppedOnRequest(DiffusabilityError):
    """The run was asked to stop and has saved; the same command resumes it."""

    exit_code = 75


def nearest(name: object, known: Sequence[str]) -> str:
    """Words that help after an unknown name: the nearest known one, if any, and all known ones."""
    match = get_close_matches(str(name), known, n=1, cutoff=0.6)
    return f"did you mean {match[0]!r}? " if match else ""
