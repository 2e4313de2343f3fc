"""Runs a Python file that a spec names, and makes what its function or class makes. Free of torch."""

import builtins
import hashlib
import importlib
import inspect
import sys
import traceback
import types
from collections.abc import Callable, Collection, Iterable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

from diffusability.core.errors import PluginError
from diffusability.core.plugins import registry
from diffusability.core.plugins.contract_checks import check_built, noted, place_of
from diffusability.core.plugins.source_file import Target, offered, options_fault, parse_target, sources_of

_PREFIX = "diffusability_source_"


def from_file(spec: Any, context: Any, split: str | None = None) -> Any:
    """Calls the target of a spec with its options, and checks that what it returns keeps the group's contract.

    Raises:
        PluginError: the file cannot be imported, or the target cannot be called so, or returns something else.
    """
    target = parse_target(spec.target)
    name = f"{registry.GROUPS[spec.group]} {spec.target!r}"
    built = call_target(target, spec.options, name, {"context": context, "split": split})
    check_built(name, spec.group, built, target.name, place_of(load_target(target)))
    return built


def call_target(target: Target, options: dict[str, Any], name: str, extra: dict[str, Any]) -> Any:
    """What a target returns for its options; of ``extra`` it gets what it has parameters for.

    Raises:
        PluginError: the file cannot be imported, or the target cannot be called so. An error inside stays what it is.
    """
    made = load_target(target)
    if not callable(made):
        raise PluginError(f"{name}: {target.name!r} is a {type(made).__name__}; expected a function or a class")
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):  # such as a class of an extension module
        return noted(name, made, **options)
    fault = options_fault(signature, options)
    if fault is not None:
        raise PluginError(f"{name}: {target.name}{signature} {fault} ({place_of(made)})")
    return noted(name, made, **options, **{key: extra[key] for key in offered(signature, options)})


def load_target(target: Target) -> Any:
    """Imports a file, with the modules beside it that it imports, and returns what the name stands for.

    The modules get names of their own, made of what the files hold: two files of one name, and an edited one, do not
    get in each other's way, and an installed package of the same name does not either.

    Raises:
        PluginError: the file is not there, fails when it is imported, or has no such name.
    """
    if not target.path.is_file():
        raise PluginError(f"there is no file {str(target.path)!r}")
    package = _package(target.path.resolve())
    try:
        module = importlib.import_module(f"{package}.{target.path.stem}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a file may fail in any way, also by sys.exit
        raise PluginError(
            f"{str(target.path)!r} cannot be imported: {type(error).__name__}: {error} ({_line_of(error, target.path)})"
        ) from error
    try:
        return getattr(module, target.name)
    except AttributeError:
        raise PluginError(f"{str(target.path)!r} defines no {target.name!r}") from None


def _line_of(error: BaseException, path: Path) -> str:
    """The last line of the traceback that is in the file's folder."""
    folder = str(path.resolve().parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(folder)]
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(path)


def _package(path: Path) -> str:
    """A package that stands for the file's folder, named by its path and by what the file and its modules hold."""
    sources = sources_of(path)
    digest = hashlib.blake2b(str(path.parent).encode(errors="surrogateescape"), digest_size=8)
    for source in sources:
        digest.update(source.encode() + b"\0" + hashlib.blake2b((path.parent / source).read_bytes()).digest())
    name = _PREFIX + digest.hexdigest()
    if name not in sys.modules:
        importlib.invalidate_caches()
        package = types.ModuleType(name)
        package.__path__ = [str(path.parent)]
        sys.modules[name] = package
        local = {Path(source).parts[0].removesuffix(".py") for source in sources}
        sys.meta_path.insert(0, _Finder(name, local))
    return name


class _Finder(MetaPathFinder):
    """Finds the modules of one such package."""

    def __init__(self, package: str, local: Collection[str]) -> None:
        self.package = package
        self.local = local

    def find_spec(
        self, fullname: str, path: Iterable[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{self.package}."):
            return None
        spec = PathFinder.find_spec(fullname, None if path is None else list(path), target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path, self.package, self.local)
        return spec


class _Loader(SourceFileLoader):
    """Runs the source as it is now, writes no byte code, and lets absolute imports find the modules beside it first."""

    def __init__(self, fullname: str, path: str, package: str, local: Collection[str]) -> None:
        super().__init__(fullname, path)
        self.import_module = _importing(package, local)

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        code: types.CodeType = self.source_to_code(self.get_data(path), path)
        return code

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self.import_module}
        super().exec_module(module)


def _importing(package: str, local: Collection[str]) -> Callable[..., Any]:
    """What an import statement calls: names of the folder's modules are looked up in the package."""

    def import_module(name: str, names: Any = None, scope: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        top = name.partition(".")[0]
        if level or top not in local:
            return builtins.__import__(name, names, scope, fromlist, level)
        if fromlist:
            return builtins.__import__(f"{package}.{name}", names, scope, fromlist, 0)
        importlib.import_module(f"{package}.{name}")
        return sys.modules[f"{package}.{top}"]

    return import_module
