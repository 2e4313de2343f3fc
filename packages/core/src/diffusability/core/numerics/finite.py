"""The refusal of numbers that are not finite."""

from collections.abc import Sequence

from torch import Tensor

from diffusability.core.errors import NotFiniteError


def require_finite(values: Tensor, what: str, indices: Sequence[int] = ()) -> None:
    """Refuses values that are NaN or infinite: what is computed from them would look like a result.

    Args:
        values: one row for each sample. Integers are always finite.
        what: what they are, for the message.
        indices: the samples' numbers; the first bad ones are named.

    Raises:
        NotFiniteError: a value is not finite.
    """
    if not values.is_floating_point() or bool(values.isfinite().all()):
        return
    bad = (~values.isfinite()).flatten(1).any(1) if values.ndim > 1 else ~values.isfinite()
    rows = bad.nonzero().flatten().tolist()
    named = [str(indices[row] if row < len(indices) else row) for row in rows[:5]]
    samples = f"sample{'s' if len(rows) > 1 else ''} {', '.join(named)}{' and others' if len(rows) > 5 else ''}"
    share = f"{int((~values.isfinite()).sum())} of {values.numel()} values"
    raise NotFiniteError(f"{what} of {samples} are not finite ({share} are NaN or infinite); expected finite numbers")
