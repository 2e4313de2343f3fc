"""The only door to plugins: entry points, found through their metadata and imported when used.

An entry point of a group such as ``diffusability.regularizers`` names a *spec class* whose ``kind`` equals the entry
point's name. Built-in kinds are registered in the same way as those of third parties.
"""

import configparser
import importlib
import sys
from functools import lru_cache
from typing import Any

import attrs
import entrypoints

from diffusability.core.errors import PluginError, nearest

PREFIX = "diffusability."

#: What can be plugged in: the name of the group and what one of its members is called in messages.
GROUPS: dict[str, str] = {
    "autoencoders": "autoencoder",
    "denoisers": "denoiser",
    "objectives": "objective",
    "regularizers": "regularizer",
    "evaluators": "evaluator",
    "features": "feature extractor",
    "samplers": "sampler",
    "datasets": "dataset",
    "trackers": "tracker",
}


#: Entry points that are functions, not spec classes: what other packages add to ``diffusability.core``.
FUNCTIONS = "functions"


@attrs.frozen
class Plugin:
    """An installed kind, as its distribution's metadata describes it. Nothing has been imported."""

    group: str
    kind: str
    module: str
    attribute: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{GROUPS[self.group]} {self.kind!r} of {self.distribution} {self.version}"


@lru_cache(maxsize=8)
def _scan(search_path: tuple[str, ...]) -> tuple[Plugin, ...]:
    try:
        files = list(entrypoints.iter_files_distros(path=search_path))
    except configparser.Error as error:
        raise PluginError(f"an installed distribution has a malformed entry_points.txt: {error}") from error
    plugins = []
    for config, distribution in files:
        for group in GROUPS:
            if PREFIX + group not in config:
                continue
            for kind, target in config.items(PREFIX + group):
                module, _, attribute = target.partition(":")
                plugins.append(
                    Plugin(
                        group,
                        kind,
                        module.strip(),
                        attribute.split("[")[0].strip(),
                        distribution.name.replace("_", "-"),
                        distribution.version or "of unknown version",
                    )
                )
    return tuple(plugins)


@lru_cache(maxsize=8)
def _scan_functions(search_path: tuple[str, ...]) -> dict[str, str]:
    functions: dict[str, str] = {}
    for config, _ in entrypoints.iter_files_distros(path=search_path):
        if PREFIX + FUNCTIONS in config:
            functions = {**dict(config.items(PREFIX + FUNCTIONS)), **functions}
    return functions


def refresh() -> None:
    """Forgets what was found, for a process in which packages were installed after it started."""
    _scan.cache_clear()
    _scan_functions.cache_clear()


def functions() -> dict[str, str]:
    """The functions that installed packages add to ``diffusability.core``: ``"module:name"`` by name."""
    return _scan_functions(tuple(sys.path))


def function(name: str) -> Any:
    """Imports one of them.

    Raises:
        PluginError: no installed package has it, or its module cannot be imported.
    """
    target = functions().get(name)
    if target is None:
        raise PluginError(
            f"no installed package provides the function {name!r}; diffusability-models, diffusability-regularizers and"
            " diffusability-eval provide those of the documentation"
        )
    return imported(target.strip(), f"function {name!r}")


def installed(group: str | None = None) -> list[Plugin]:
    """All installed kinds, of one group or of all, sorted by group and kind."""
    if group is not None and group not in GROUPS:
        raise PluginError(f"unknown plugin group {group!r}; {nearest(group, list(GROUPS))}groups: {', '.join(GROUPS)}")
    order = list(GROUPS)
    plugins = (plugin for plugin in _scan(tuple(sys.path)) if group in (None, plugin.group))
    return sorted(plugins, key=lambda plugin: (order.index(plugin.group), plugin.kind, plugin.distribution))


def kinds(group: str) -> list[str]:
    """Names of the installed kinds of a group."""
    return sorted({plugin.kind for plugin in installed(group)})


def find(group: str, kind: str) -> Plugin:
    """The one installed plugin of that kind.

    Raises:
        PluginError: the kind is unknown, or several distributions register it.
    """
    matches = [plugin for plugin in installed(group) if plugin.kind == kind]
    noun = GROUPS[group]
    if not matches:
        known = kinds(group)
        raise PluginError(
            f"unknown {noun} {kind!r}; {nearest(kind, known)}installed: {', '.join(known) or 'none of this group'}"
        )
    if len(matches) > 1:
        owners = " and ".join(f"{plugin.distribution} {plugin.version} ({plugin.module})" for plugin in matches)
        raise PluginError(f"{noun} {kind!r} is registered more than once: by {owners}; uninstall one of them")
    return matches[0]


def load(group: str, kind: str, base: type | None = None) -> type[Any]:
    """Imports the spec class of a kind and checks that it is what its entry point promises.

    Raises:
        PluginError: the kind is unknown or registered twice, its module cannot be imported, or the object that the
            entry point names is not a subclass of ``base`` with that ``kind``. Other plugins are not affected.
    """
    plugin = find(group, kind)
    try:
        spec_class = getattr(importlib.import_module(plugin.module), plugin.attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may fail in any way, also by sys.exit
        raise PluginError(
            f"{plugin} cannot be imported from '{plugin.module}:{plugin.attribute}': {type(error).__name__}: {error}"
        ) from error
    if not isinstance(spec_class, type) or (base is not None and not issubclass(spec_class, base)):
        wanted = base.__name__ if base else "spec class"
        raise PluginError(f"{plugin} is not a {wanted} subclass but {spec_class!r}")
    field = getattr(spec_class, "model_fields", {}).get("kind")
    allowed = getattr(field.annotation, "__args__", ()) if field else ()
    if kind not in allowed:
        raise PluginError(f"{plugin}: {spec_class.__name__} must declare kind: Literal[{kind!r}]")
    return spec_class


def imported(target: str, owner: str) -> Any:
    """What ``"module:name"`` names; ``owner`` is who asks, for messages.

    Raises:
        PluginError: the module cannot be imported or has no such name.
    """
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{owner} builds {target!r}, which cannot be imported: {error}") from error
