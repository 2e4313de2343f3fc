"""A new plugin package, from templates that are part of this distribution."""

import re
from pathlib import Path

import jinja2

from diffusability.core.errors import PluginError, nearest
from diffusability.core.plugins import registry

#: The plugin group of each kind of package, and how one of its kinds stands in a spec.
KINDS: dict[str, tuple[str, str]] = {
    "regularizer": ("regularizers", "regularizers: [{kind: NAME, weight: 0.01}]"),
    "evaluator": ("evaluators", "evaluators: [{kind: NAME}]"),
    "autoencoder": ("autoencoders", "objective: {kind: reconstruction, autoencoder: {kind: NAME}}"),
    "denoiser": ("denoisers", "objective: {kind: flow-matching, denoiser: {kind: NAME}}"),
    "objective": ("objectives", "objective: {kind: NAME, autoencoder: {kind: compact-kl}}"),
    "sampler": ("samplers", "sampler: {kind: NAME, steps: 20}"),
    "dataset": ("datasets", "data: {kind: NAME, resolution: 64}"),
    "tracker": ("trackers", "trackers: [{kind: NAME}]"),
    "features": ("features", "evaluators: [{kind: frechet, features: {kind: NAME}}]"),
}


def write_plugin(name: str, kind: str, parent: Path) -> Path:
    """Writes a package with one ``kind`` of plugin called ``name`` into a new folder of ``parent``, which is returned.

    Raises:
        PluginError: the name cannot be a kind's or is taken, the kind of plugin is unknown, or the folder is there.
    """
    if kind not in KINDS:
        raise PluginError(f"unknown kind of plugin {kind!r}; {nearest(kind, list(KINDS))}known: {', '.join(KINDS)}")
    plugin = name.removeprefix("diffusability-")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", plugin):
        raise PluginError(f"{name!r} cannot be the name of a plugin; expected words in lower case, joined by '-'")
    group, example = KINDS[kind]
    if plugin in registry.kinds(group):
        owner = registry.find(group, plugin)
        raise PluginError(f"there is a {owner} already; expected another name")
    folder = parent / f"diffusability-{plugin}"
    if folder.exists():
        raise PluginError(f"{str(folder)!r} exists; expected a new folder")
    parts = plugin.split("-")
    names = {
        "distribution": folder.name,
        "kind": plugin,
        "metric": plugin.replace("-", "_"),
        "module": plugin.replace("-", "_"),
        "package": folder.name.replace("-", "_"),
        "class": "".join(word.capitalize() for word in parts),
        "group": group,
        "noun": registry.GROUPS[group],
        "example": example.replace("NAME", plugin),
    }
    package = folder / "src" / names["package"]
    for target, template in {
        folder / "pyproject.toml": "pyproject.toml.j2",
        folder / "README.md": "README.md.j2",
        package / "__init__.py": "__init__.py.j2",
        package / "spec.py": f"{kind}/spec.py.j2",
        package / f"{names['module']}.py": f"{kind}/module.py.j2",
        folder / "tests" / f"test_{names['module']}.py": f"{kind}/test.py.j2",
    }.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_templates().get_template(template).render(names), encoding="utf-8")
    return folder


def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("plugin_templates")),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
