"""The core knows no metric by name: what is said of a metric comes with the evaluator that gives it."""

import ast
from pathlib import Path

from diffusability.core.plugins import registry
from diffusability.core.specs.components import EvaluatorSpec

CORE = Path(__file__).resolve().parents[2] / "packages" / "core" / "src" / "diffusability" / "core"
#: Names that stand for something else: the precision of numbers, and the package that LPIPS' weights come in.
OTHERWISE = {"precision": "", "lpips": "perceptual/"}


def metric_names() -> set[str]:
    """What the installed evaluators call their metrics."""
    classes = [registry.load("evaluators", kind, EvaluatorSpec) for kind in registry.kinds("evaluators")]
    return {name for spec_class in classes for name in spec_class.metrics}


def literals(path: Path) -> set[str]:
    """The strings of a module; docstrings never equal a name, since they are sentences."""
    tree = ast.parse(path.read_text())
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_no_metric_is_named_in_the_core() -> None:
    """All string literals of the core against all names that evaluators declare."""
    names = metric_names()
    assert {"psnr", "ssim", "viv", "high_frequency_share", "fid", "latent_spectrum_curve"} <= names
    places = []
    for path in sorted(CORE.rglob("*.py")):
        place = path.relative_to(CORE).as_posix()
        named = {name for name in literals(path) & names if not place.startswith(OTHERWISE.get(name, "-"))}
        places += [f"{place}: {name}" for name in sorted(named)]
    assert places == []


def test_no_two_evaluators_say_different_things_of_a_metric() -> None:
    """Labels and ranks are each of one metric; a name that two evaluators declare means the same."""
    seen: dict[str, object] = {}
    for kind in registry.kinds("evaluators"):
        for name, info in registry.load("evaluators", kind, EvaluatorSpec).metrics.items():
            assert seen.setdefault(name, info) == info, name
