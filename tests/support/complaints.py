"""What checking says of a plan."""

from collections.abc import Collection

from diffusability.core.errors import SpecError
from diffusability.core.planning.check import check
from diffusability.core.planning.plan import Plan, PlannedStage


def complaints(plan: Plan, num_ranks: int = 1, files: Collection[PlannedStage] | None = None) -> str:
    """All that is wrong with it, as a user reads it; empty for a plan that would run."""
    try:
        check(plan, num_ranks, files)
    except SpecError as error:
        return str(error)
    return ""
