"""Generates the pages ``reference/api/*.md``: a page for each room of the packages, its modules by mkdocstrings."""

import ast
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from diffusability.core.plugins import registry

PACKAGES = Path(__file__).resolve().parents[2] / "packages"

#: Rooms that others build on or call; the rest of the core serves the command line.
ROOMS = {
    "core": (
        "errors",
        "shapes",
        "contracts",
        "specs",
        "planning",
        "numerics",
        "data",
        "perceptual",
        "trackers",
        "engine",
        "models",
        "sampling",
        "facade",
        "scoring",
        "cost",
        "run",
    ),
    "models": ("specs", "autoencoders", "denoisers", "objectives", "samplers"),
    "regularizers": ("specs", "terms"),
    "eval": (
        "specs",
        "reconstruction",
        "spectra",
        "predictors",
        "generation",
        "functions",
        "features",
        "streaming",
    ),
}
OPTIONS = "\n    options:\n      heading_level: {level}\n"


def modules_of(package: str, room: str) -> list[str]:
    """Modules of a room and its folders, by dotted name; a room may be a single module."""
    source = PACKAGES / package / "src"
    home = source / "diffusability" / package
    paths = sorted((home / room).rglob("*.py")) or [home / f"{room}.py"]
    names = [path.relative_to(source).with_suffix("").parts for path in paths if path.name != "__init__.py"]
    return [".".join(parts) for parts in names if not any(part.startswith("_") for part in parts)]


def pages() -> Iterator[tuple[str, str, str]]:
    """Package, room and text of each page."""
    for package, rooms in ROOMS.items():
        for room in rooms:
            blocks = [f"# diffusability.{package}.{room}\n"]
            for module in modules_of(package, room):
                blocks.append(f"::: {module}{OPTIONS.format(level=2)}")
            yield package, room, "\n".join(blocks)


def exported() -> dict[str, str]:
    """The module in which each public name of ``diffusability.core`` is defined, functions of packages included."""
    source = ast.parse((PACKAGES / "core/src/diffusability/core/__init__.py").read_text())
    assigned = {
        target.id: node.value
        for node in source.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    homes: dict[str, tuple[str, ...]] = ast.literal_eval(assigned["_HOMES"])
    own = {name: f"diffusability.core.{home}" for home, names in homes.items() for name in names}
    return own | {name: target.partition(":")[0] for name, target in registry.functions().items()}


def index() -> str:
    """The first page: what ``diffusability.core`` exports, and the rooms."""
    lines = [
        "# Python API\n",
        "`diffusability.core` exports what [programs](../../python.md) and [plugins](../../write-a-plugin.md) need:\n",
        "| name | defined in |\n| --- | --- |",
    ]
    for name, home in sorted(exported().items()):
        lines.append(f'| <autoref optional identifier="{home}.{name}">`{name}`</autoref> | `{home}` |')
    lines.append("\nEverything else, by package and folder:\n")
    lines += [f"* [`diffusability.{package}.{room}`]({package}/{room}.md)" for package, room, _ in pages()]
    return "\n".join(lines) + "\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the pages to the navigation, in the place of its entry ``Python API``."""
    assert config.nav is not None
    (reference,) = [entry["Reference"] for entry in config.nav if isinstance(entry, dict) and "Reference" in entry]
    by_package: dict[str, list[dict[str, str]]] = {}
    for package, room, _ in pages():
        by_package.setdefault(package, []).append({room: f"reference/api/{package}/{room}.md"})
    reference.append({"Python API": ["reference/api/index.md", *({name: urls} for name, urls in by_package.items())]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages to the site."""
    files.append(File.generated(config, "reference/api/index.md", content=index()))
    for package, room, text in pages():
        files.append(File.generated(config, f"reference/api/{package}/{room}.md", content=text))
    return files
