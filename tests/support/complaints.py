"""What checking says of a plan."""

from diffusability.core.errors import SpecError
from diffusability.core.specs.check import check
from diffusability.core.specs.plan import Plan


def complaints(plan: Plan, num_ranks: int = 1) -> str:
    """All that is wrong with it, as a user reads it; empty for a plan that would run."""
    try:
        check(plan, num_ranks)
    except SpecError as error:
        return str(error)
    return ""
