"""The one-line summaries of plugins, read from their source without importing anything."""

import ast
import importlib.machinery
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path

from diffusability.core.plugins.registry import Plugin


def summary(plugin: Plugin) -> str:
    """The first line of the docstring of a plugin's spec class; empty when it has none or cannot be found.

    Nothing of the plugin is imported: its module is looked for on the path, and its source is parsed.
    """
    return _class_summary(plugin.module, plugin.attribute, follow=3)


def _class_summary(module: str, name: str, follow: int) -> str:
    tree = _tree(module)
    if tree is None:
        return ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0].strip()
        if isinstance(node, ast.ImportFrom) and node.module and follow:  # a class that is only passed on
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _class_summary(_absolute(module, node), alias.name, follow - 1)
    return ""


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """The module that an import statement in a module means."""
    assert node.module is not None
    if not node.level:
        return node.module
    is_package = (_source(module) or Path()).name == "__init__.py"
    above = module.split(".")[: -(node.level - is_package) or None]
    return ".".join([*above, node.module])


@lru_cache(maxsize=512)
def _tree(module: str) -> ast.Module | None:
    source = _source(module)
    try:
        return ast.parse(source.read_bytes()) if source is not None else None
    except (OSError, SyntaxError, ValueError):
        return None


@lru_cache(maxsize=512)
def _source(module: str) -> Path | None:
    """The file of a module, found without importing it or its packages."""
    first, *rest = module.split(".")
    if not rest:
        return _file_of(first, None)
    places = list(sys.path)
    for depth, name in enumerate((first, *rest)):
        if depth == len(rest):
            return _file_of(name, places) or None
        inner = [str(folder) for place in places if (folder := Path(place or ".") / name).is_dir()]
        if not inner and depth == 0:  # an editable install that no folder on the path shows
            inner = _editable_places(first)
        places = inner
    return None


def _file_of(name: str, places: list[str] | None) -> Path | None:
    for place in sys.path if places is None else places:
        for candidate in (Path(place or ".") / f"{name}.py", Path(place or ".") / name / "__init__.py"):
            if candidate.is_file():
                return candidate
    if places is None:
        module_spec = _spec(name)
        return (
            Path(module_spec.origin)
            if module_spec is not None and module_spec.origin and module_spec.has_location
            else None
        )
    return None


def _editable_places(package: str) -> list[str]:
    module_spec = _spec(package)
    return list(module_spec.submodule_search_locations or ()) if module_spec is not None else []


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """The spec of a top-level module, which finding does not import."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
