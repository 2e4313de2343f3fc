"""The public names of a package, imported when they are first used. Free of torch."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lazy_loader


def lazy_names(
    package: str, homes: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package: its public names alone, and its ``__version__``.

    Args:
        package: its ``__name__``, such as ``diffusability.eval``; the distribution is called ``diffusability-eval``.
        homes: public names by the module, below the package, that defines them.
    """
    attributes = {home: list(public) for home, public in homes.items()}
    imported, names, everything = lazy_loader.attach(package, submod_attrs=attributes)

    def get(name: str) -> Any:
        return importlib.metadata.version(package.replace(".", "-")) if name == "__version__" else imported(name)

    return get, names, everything
