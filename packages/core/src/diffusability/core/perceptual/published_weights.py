"""Weight files that others publish and packages do not ship: where they are looked for, and what to do without.

Free of torch, so that checking a spec can use it.
"""

import importlib.util
import os
from pathlib import Path

import attrs


def hub_checkpoints() -> Path:
    """The folder in which torch.hub keeps downloaded weights: ``$TORCH_HOME/hub/checkpoints``."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser() / "hub" / "checkpoints"


@attrs.frozen(kw_only=True)
class PublishedWeights:
    """A weight file on the web.

    Attributes:
        purpose: what needs it, for messages.
        url: where it is published; its last part is the file's name.
        size_mib: its size in MiB, rounded.
    """

    purpose: str
    url: str
    size_mib: int

    @property
    def file_name(self) -> str:
        """Name of the file."""
        return self.url.rsplit("/", maxsplit=1)[-1]

    def locate(self, given: Path | None = None) -> Path:
        """The file: the one that is given, or the one in torch.hub's cache. Nothing is ever downloaded.

        Raises:
            ValueError: it is not there; says its name, size, where it is published, and where to put it.
        """
        path = given if given is not None else hub_checkpoints() / self.file_name
        if given is not None and given.is_dir():
            path = given / self.file_name
        if not path.is_file():
            raise ValueError(
                f"{self.purpose} needs the weight file {self.file_name!r} ({self.size_mib} MiB), and {str(path)!r} does"
                f" not exist; download it from {self.url} to {str(hub_checkpoints())!r}, or name its path in the spec"
            )
        return path


def packaged_file(package: str, relative: str, purpose: str, extra: str) -> Path:
    """A file that an installed package ships, without importing the package.

    Raises:
        ValueError: the package is not installed; names the extra that brings it.
    """
    found = importlib.util.find_spec(package)
    folders = list(found.submodule_search_locations or []) if found is not None else []
    for folder in folders:
        path = Path(folder) / relative
        if path.is_file():
            return path
    what = f"holds no {relative!r}" if folders else "is not installed"
    raise ValueError(
        f"{purpose} needs the package {package.replace('_', '-')!r}, which {what};"
        f" pip install 'diffusability-core[{extra}]'"
    )
