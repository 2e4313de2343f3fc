"""The error for a library that an optional extra brings. Free of torch."""

import importlib.util


def require(module: str, kind: str, extra: str) -> None:
    """Raises ValueError when a library is not installed; names the extra of diffusability-core that brings it."""
    if importlib.util.find_spec(module) is None:
        raise ValueError(
            f"data of kind {kind!r} needs the package {module!r}; pip install 'diffusability-core[{extra}]'"
        )
