"""How a spec makes what it describes."""

from typing import Any, TypeVar

from diffusability.core.specs.build_context import BuildContext

Made = TypeVar("Made", bound="FromSpec")


class FromSpec:
    """Base of the contracts: what a spec's ``builds`` names is made by ``from_spec``."""

    @classmethod
    def from_spec(cls: type[Made], spec: Any, context: BuildContext) -> Made:
        """Makes one from its spec. By default ``cls(spec)``; a class that takes something else overrides this."""
        return cls(spec)  # type: ignore[call-arg]
