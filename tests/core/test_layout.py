"""The layout of the packages: layers, circles, full folders, and the rule that binds a spec to what it builds."""

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffusability.core.contracts.from_spec import FromSpec
from diffusability.core.plugins import registry
from diffusability.core.specs.components import SPEC_BASES

ROOT = Path(__file__).resolve().parents[2]
MOST_FILES = 20

#: The rooms of the core, lowest first: a room imports rooms of lower layers, and of its own layer only itself.
LAYERS = (
    ("errors", "lazy_names", "shapes"),
    ("extras", "reading", "writing", "weight_prefixes", "checksums"),
    ("plugins", "published_weights"),
    ("numerics",),
    ("specs",),
    ("data.specs",),
    ("planning", "contracts"),
    ("run",),
    ("report",),
    ("perceptual", "trackers", "data"),
    ("engine", "models"),
    ("sampling",),
    ("stages",),
    ("cost", "scoring"),
    ("cli", "facade"),
)


def _modules() -> dict[str, Path]:
    files = sorted(ROOT.glob("packages/*/src/diffusability/**/*.py"))
    return {".".join(path.with_suffix("").parts[path.parts.index("src") + 1 :]): path for path in files}


MODULES = {name.removesuffix(".__init__"): path for name, path in _modules().items()}


def _imports(name: str) -> Iterator[str]:
    """Modules of ours that a module imports: at its top, inside functions, and for types."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                target = f"{node.module}.{alias.name}"
                target = target if target in MODULES else node.module
                if target in MODULES and target != name:
                    yield target


IMPORTS = {name: set(_imports(name)) for name in MODULES}


def _circle() -> list[str]:
    """The modules of some import circle, in order; empty when there is none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for other in sorted(IMPORTS[name]):
            if circle := visit(other, [*path, name]):
                return circle
        done.add(name)
        return []

    return next((circle for name in sorted(MODULES) if (circle := visit(name, []))), [])


def test_no_import_circle() -> None:
    """The graph of all import statements, also those inside functions and for types, is without a circle."""
    assert _circle() == []


def test_rooms_of_the_core_import_lower_layers_only() -> None:
    """Each import between folders of the core against the layers of docs/architecture.md."""

    def room_of(name: str) -> str:
        rooms = name.split(".")[2:4]
        return "data.specs" if rooms == ["data", "specs"] else ".".join(rooms[:1])

    level = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}
    wrong = []
    for name, imported in IMPORTS.items():
        room = room_of(name)
        for other in imported:
            below = room_of(other)
            if (
                name.startswith("diffusability.core.")
                and other.startswith("diffusability.core.")
                and below not in ("", room)
            ):
                assert {room, below} <= level.keys(), f"{name} or {other} stands in no layer"
                if level[below] >= level[room]:
                    wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_no_folder_is_too_full() -> None:
    """At most 20 source files in a folder, beside its ``__init__``."""
    folders = [path.parent for path in MODULES.values() if path.name != "__init__.py"]
    assert {str(folder): folders.count(folder) for folder in set(folders) if folders.count(folder) > MOST_FILES} == {}


@pytest.mark.parametrize("plugin", registry.installed(), ids=lambda plugin: f"{plugin.group}-{plugin.kind}")
def test_a_spec_names_a_class_that_fulfils_its_contract(plugin: registry.Plugin) -> None:
    """What ``builds`` names: a class with ``from_spec``, or a function of the spec and its context."""
    spec_class = registry.load(plugin.group, plugin.kind, SPEC_BASES[plugin.group])
    made = spec_class.implementation()
    if isinstance(made, type):
        assert hasattr(made, "from_spec")
        assert issubclass(made, FromSpec) or plugin.group == "datasets"
    else:
        assert list(inspect.signature(made).parameters)[:2] == ["spec", "context"]
    assert "build" not in vars(spec_class), "a built-in spec leaves building to its class"


def test_specs_and_planning_load_no_torch() -> None:
    """Every module of the folders ``specs``, ``planning`` and ``plugins``, in one fresh interpreter."""
    names = [name for name in MODULES if {"specs", "planning", "plugins"} & set(name.split(".")[2:])]
    assert len(names) > 60
    heavy = ["torch", "deepspeed", "matplotlib", "timm", "transformers", "torch_fidelity", "diffusers"]
    program = "import importlib, sys\n" + "".join(f"importlib.import_module({name!r})\n" for name in names)
    program += f"print(set({heavy!r}) & set(sys.modules))"
    environment = {**os.environ, "JAXTYPING_DISABLE": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize("name", [name for name in MODULES if "specs" in name.split(".")])
def test_a_spec_never_imports_what_it_builds(name: str) -> None:
    """The modules that the ``builds`` of a module name against its imports, also those for types."""
    built = re.findall(r'builds: ClassVar\[str\] = \(?\s*"([\w.]+):', MODULES[name].read_text())
    assert not IMPORTS[name] & set(built)


@pytest.mark.parametrize("name", MODULES)
def test_names_say_what_they_are_of(name: str) -> None:
    """No variable, argument, field or function is called by a word that fits any other as well."""
    tree = ast.parse(MODULES[name].read_text())
    bound = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound += [node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)]
    bound += [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    bound += [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert not set(bound) & {"found", "words", "one", "around", "of"}


def test_the_picture_of_the_layers_is_true() -> None:
    """The mermaid picture of docs/architecture.md against ``LAYERS``."""
    drawn = re.findall(r'L(\d+)\["([^"]+)"\]', (ROOT / "docs/architecture.md").read_text())
    rooms = {int(height): tuple(names.split(", ")) for height, names in drawn}
    assert rooms == dict(enumerate(LAYERS))


DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "recipes/README.md", *ROOT.glob("docs/*.md")]
DOCUMENTS += ROOT.glob("packages/*/README.md")


@pytest.mark.parametrize("document", sorted(DOCUMENTS), ids=lambda path: str(path.relative_to(ROOT)))
def test_paths_and_modules_in_documents_exist(document: Path) -> None:
    """Links, paths of Python files (of the repository, or ``core/...`` for a package's) and modules of ours."""
    text = document.read_text()
    generated = r"(?:\.\./)?reference/"  # pages that the site's build makes, and checks
    links = [document.parent / link for link in re.findall(rf"\]\((?!http|#|{generated})([^)#]+)", text)]
    assert [str(link) for link in links if not link.exists()] == []
    paths = r"(?<!\[)`(\w[\w.-]*(?:/[\w.-]+)+\.py|(?:core|models|regularizers|eval|tests)/[\w/]*)`"
    for path in re.findall(paths, text):
        package = path.split("/")[0]
        assert (ROOT / path).exists() or (ROOT / f"packages/{package}/src/diffusability/{path}").exists(), path
    for name in re.findall(r"\bdiffusability\.(?:core|models|regularizers|eval)(?:\.\w+)+", text):
        assert name in MODULES or name.rpartition(".")[0] in MODULES, name
