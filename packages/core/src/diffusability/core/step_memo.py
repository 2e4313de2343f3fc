"""What several regularizers need from one step, computed once."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class StepMemo:
    """Remembers results within one forward pass, by a key that says what was computed from what.

    Two regularizers that decode the same downsampled latents pay for one decoding. What is remembered is attached to
    the graph and lives as long as the step's output. A key must name everything that the result depends on besides the
    step itself, for example ``("decoded", "bilinear", (8, 8))``.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The remembered result of that key, or else that of ``compute``, which is remembered."""
        if key not in self._values:
            self._values[key] = compute()
        value: T = self._values[key]
        return value
