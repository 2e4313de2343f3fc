"""Libraries that only some uses need: looked for before anything starts, with the command that installs a missing one.

Free of torch, so that checking a spec can use it.
"""

import importlib.util
from collections.abc import Mapping

from diffusability.core.errors import MissingPackageError

#: The libraries of the extras of diffusability-core that whole commands need, by the name that is imported.
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "cli": ("rich", "typer"),
    "hub": ("huggingface_hub",),
    "report": ("matplotlib", "scipy"),
    "photographs": ("skimage", "sklearn"),
    "train": ("deepspeed",),
}

#: Distributions whose import name is another.
_DISTRIBUTION_OF = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


def _name(module: str) -> str:
    return _DISTRIBUTION_OF.get(module, module.replace("_", "-"))


def install_command(extra: str, distribution: str = "diffusability-core") -> str:
    """The command that installs a distribution of ours with an extra."""
    return f"pip install '{distribution}[{extra}]'"


def require_package(module: str, purpose: str, extra: str, distribution: str = "diffusability-core") -> None:
    """Looks whether a package is installed, without importing it.

    Raises:
        MissingPackageError: it is not; names the extra of our distribution that brings it. It is a ValueError too.
    """
    if importlib.util.find_spec(module) is None:
        what = f"{purpose} needs the package {_name(module)!r}, which is not installed"
        raise MissingPackageError(f"{what}; {install_command(extra, distribution)}")


def require_extra(extra: str, purpose: str) -> None:
    """Looks whether every library of an extra in ``LIBRARIES`` is installed, without importing it.

    Raises:
        MissingPackageError: the first that is not.
    """
    for module in LIBRARIES[extra]:
        require_package(module, purpose, extra)


def missing_package(error: ModuleNotFoundError) -> MissingPackageError | None:
    """What to say of a failed import of a library that an extra brings; None for any other module."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in LIBRARIES.items():
        if module in modules:
            name = _name(module)
            what = f"this needs the package {name!r}, which is not installed"
            return MissingPackageError(f"{what}; {install_command(extra)}")
    return None
