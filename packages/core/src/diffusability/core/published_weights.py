"""Weight files that others publish and packages do not ship: where they are looked for, and what to do without.

Free of torch, so that checking a spec can use it.
"""

import hashlib
import importlib.util
import os
from functools import lru_cache
from pathlib import Path

import attrs

from diffusability.core.extras import install_command


def _home(variable: str, name: str) -> Path:
    """The folder that an environment variable names, or the one of that name in the user's cache."""
    named = os.environ.get(variable) or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / name
    return Path(os.path.expanduser(named))  # unlike Path's own, it raises nothing where there is no home


def hub_checkpoints() -> Path:
    """The folder in which torch.hub keeps downloaded weights: ``$TORCH_HOME/hub/checkpoints``."""
    return _home("TORCH_HOME", "torch") / "hub" / "checkpoints"


def hub_snapshots(repository: str) -> list[Path]:
    """Folders of a Hugging Face repository in its cache (``$HF_HUB_CACHE``, ``$HF_HOME/hub``), the newest first."""
    named = os.environ.get("HF_HUB_CACHE")
    cache = Path(os.path.expanduser(named)) if named else _home("HF_HOME", "huggingface") / "hub"
    snapshots = (cache / f"models--{repository.replace('/', '--')}" / "snapshots").glob("*")
    return sorted(snapshots, key=lambda path: path.stat().st_mtime, reverse=True)


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def file_digest(path: Path) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a file, read once as long as it does not change."""
    status = path.stat()
    return _digest(path.resolve(), status.st_size, status.st_mtime_ns)


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


def packaged_file(
    package: str, relative: str, purpose: str, extra: str, distribution: str = "diffusability-core"
) -> Path:
    """A file that an installed package ships, without importing the package.

    Raises:
        ValueError: the package is not installed; names the extra of our distribution that brings it.
    """
    module_spec = importlib.util.find_spec(package)
    folders = list(module_spec.submodule_search_locations or []) if module_spec is not None else []
    for folder in folders:
        path = Path(folder) / relative
        if path.is_file():
            return path
    what = f"holds no {relative!r}" if folders else "is not installed"
    raise ValueError(
        f"{purpose} needs the package {package.replace('_', '-')!r}, which {what};"
        f" {install_command(extra, distribution)}"
    )


@attrs.frozen(kw_only=True)
class PublishedSnapshot:
    """A model in Hugging Face's layout: a folder with ``config.json`` and its weights.

    Attributes:
        purpose: what needs it, for messages.
        repository: where it is published on huggingface.co.
        size_mib: size of its weights in MiB, rounded.
        weights: names that the weight file may have, the preferred one first.
    """

    purpose: str
    repository: str
    size_mib: int
    weights: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")

    def locate(self, given: Path | None = None) -> tuple[Path, Path]:
        """The folder and its weight file: the folder that is given, or the one in the cache. Nothing is downloaded.

        Raises:
            ValueError: it is not there; says its files, their size, where it is published, and where to put it.
        """
        folders = [given] if given is not None else hub_snapshots(self.repository)
        for folder in folders:
            for name in self.weights:
                if (folder / name).is_file() and (folder / "config.json").is_file():
                    return folder, folder / name
        where = f"{str(given)!r}" if given is not None else "Hugging Face's cache"
        raise ValueError(
            f"{self.purpose} needs 'config.json' and {self.weights[0]!r} ({self.size_mib} MiB) of {self.repository!r},"
            f" and {where} does not hold them; download them from https://huggingface.co/{self.repository} into a"
            f" folder and name it in the spec, or run: hf download {self.repository}"
        )
