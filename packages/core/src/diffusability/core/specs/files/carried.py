"""What a saved model carries so that it can be rebuilt anywhere: its spec, with copies of the files that it names.

A path in the configuration of a saved model is relative to its folder where the list ``files`` names its place. Free of
torch.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from diffusability.core.errors import CheckpointError
from diffusability.core.specs.base import Incidental, LocalPath, PluginSpec, Spec, SpecPath, Written
from diffusability.core.specs.files.contents import contents
from diffusability.core.specs.python import FromFile, code_files, code_sets

#: The key of a configuration that lists the places of the paths which are relative to the model's folder.
FILES = "files"
_WEIGHTS = frozenset({".safetensors", ".pt", ".pth", ".ckpt", ".bin"})


@attrs.frozen(kw_only=True)
class Carried:
    """A spec as it is saved.

    Attributes:
        spec: as plain data; paths of files that are carried are relative to the folder.
        places: where in it these paths are.
        copies: what is copied, and to where in the folder.
    """

    spec: dict[str, Any]
    places: Sequence[SpecPath]
    copies: Sequence[tuple[Path, str]]

    def config(self, key: str) -> dict[str, Any]:
        """What belongs into a configuration: the spec under a key and, where there are any, the list of places."""
        return {key: self.spec} | ({FILES: [list(place) for place in self.places]} if self.places else {})

    def copy_to(self, directory: Path) -> None:
        """Copies the files into the folder of the model. Raises CheckpointError when one is not there any more."""
        for source, name in self.copies:
            if (directory / name).exists() and source.samefile(directory / name):
                continue
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                (shutil.copytree if source.is_dir() else shutil.copyfile)(source, directory / name)
            except OSError as error:
                raise CheckpointError(f"{str(source)!r} cannot be copied to the saved model: {error}") from None


def without_weights(spec: PluginSpec) -> PluginSpec:
    """The spec without the files of weights that it can do without: those are saved in any case."""
    left = {name: None for name, path in local_paths(spec) if path.suffix in _WEIGHTS and path.is_file()}
    optional = {name for name, field in type(spec).model_fields.items() if field.default is None}
    return spec.model_copy(update={name: None for name in left if name in optional})


def carried(spec: PluginSpec) -> Carried:
    """A spec as it is saved: source files, and everything else at a path in it, are copied along."""
    made = Carried(spec=spec.model_dump(mode="json"), places=(), copies=())
    places: list[SpecPath] = []
    copies: list[tuple[Path, str]] = []
    for place, part in spec.walk():
        for name, path in local_paths(part):
            folder = f"{FILES}/{len(places)}"
            _set(made.spec, (*place, name), f"{folder}/{path.name}")
            places.append((*place, name))
            copies.append((path, f"{folder}/{path.name}"))
        if isinstance(part, FromFile):
            folder = f"{FILES}/{len(places)}"
            _set(made.spec, (*place, "target"), f"{folder}/{part.source.path.name}:{part.source.name}")
            places.append((*place, "target"))
            copies += [(files.root / name, f"{folder}/{name}") for files in part.code() for name in files.names]
    return attrs.evolve(made, places=places, copies=copies)


def spec_of(config: Mapping[str, Any], key: str, directory: Path) -> dict[str, Any]:
    """A spec in the configuration of a saved model, with paths of what the folder carries made whole.

    Raises:
        CheckpointError: the list of these places does not fit the spec.
    """
    holder: dict[str, Any] = {"spec": _copied(config[key])}
    for place in config.get(FILES, ()):
        try:
            value = _get(holder["spec"], place)
            _set(holder["spec"], place, str((directory / value).absolute()))
        except (KeyError, IndexError, TypeError):
            raise CheckpointError(
                f"the configuration in {str(directory)!r} lists {place!r} and has no such path"
            ) from None
    return dict(holder["spec"])


def code_digests(spec: PluginSpec | None) -> frozenset[str]:
    """What the source files that a spec names hold."""
    if spec is None:
        return frozenset()
    return frozenset(contents(files).digest for files in code_sets(spec))


def refuse_code(spec: PluginSpec, directory: Path, trust_code: bool, known: frozenset[str] = frozenset()) -> None:
    """Lets no code run because a folder of weights carries it.

    Args:
        spec: what the folder's configuration says.
        directory: the folder.
        trust_code: whether somebody has said that it may.
        known: digests of source files that the spec of the run names itself.

    Raises:
        CheckpointError: there is code in it, and nobody has said that it may run; names the files.
    """
    files = code_files(spec)
    if not files or trust_code or code_digests(spec) <= known:
        return
    listed = ", ".join(map(repr, map(str, files)))
    raise CheckpointError(
        f"the model in {str(directory)!r} carries code, which would run: {listed}; read it, and if you trust it, load"
        " the model with trust_code: true (--trust-code on the command line)"
    )


def local_paths(part: Spec) -> list[tuple[str, Path]]:
    """Fields with a path at which something is; source files are not among them."""
    paths = []
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if any(isinstance(marker, Written | Incidental) for marker in field.metadata):
            continue
        local = isinstance(value, str) and any(isinstance(marker, LocalPath) for marker in field.metadata)
        if isinstance(value, Path) or (local and not (isinstance(part, FromFile) and name == "target")):
            path = Path(value)
            if path.exists():
                paths.append((name, path))
    return paths


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _get(data: Any, place: Sequence[str | int]) -> Any:
    for key in place:
        data = data[key]
    return data


def _set(data: Any, place: Sequence[str | int], value: object) -> None:
    _get(data, place[:-1])[place[-1]] = value
