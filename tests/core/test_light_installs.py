"""What works without the libraries of extras, and what is said where one of them is missing."""

import pytest
from hidden_packages import run_without

from diffusability.core.errors import MissingPackageError
from diffusability.core.extras import LIBRARIES, missing_package, require_extra, require_package

OPTIONAL = [module for extra, modules in LIBRARIES.items() if extra != "hub" for module in modules]  # models needs it
#: Packages and modules of ours that serve those who have the extra, as ``ROOMS_OF_EXTRAS`` of test_import_guards.
NEED_EXTRAS = (
    "core.cli.", "core.cost.", "core.engine.training_loop", "core.report", "core.run.changed_files",
    "core.run.progress", "core.scoring.scorecard_table", "core.stages.", "eval.figures.",
    "eval.reconstruction.ms_ssim",  # torchmetrics sees that matplotlib is installed, and imports it where it cannot be
)  # fmt: skip

IMPORT_ALL = """
import importlib, pkgutil, sys
import diffusability.core, diffusability.models, diffusability.regularizers, diffusability.eval
for package in (diffusability.core, diffusability.models, diffusability.regularizers, diffusability.eval):
    for name in package.__all__ if hasattr(package, "__all__") else ():
        getattr(package, name)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(module.name.removeprefix("diffusability."))
loaded = sorted(set({hidden!r}) & set(sys.modules))
assert loaded == [], loaded
"""


def test_everything_but_commands_and_figures_imports_without_extras():
    """Every module and every public name of the four packages, with the libraries of all extras hidden."""
    done = run_without(OPTIONAL, IMPORT_ALL.format(hidden=OPTIONAL))
    assert done.returncode == 0, done.stderr
    assert [name for name in done.stdout.split() if not name.startswith(NEED_EXTRAS)] == []


def test_a_training_step_with_a_regularizer_needs_no_extra():
    """A loss of ours and its gradient, on a plain module of torch."""
    program = """
import torch
from diffusability.regularizers.terms.scale_equivariance import scale_equivariance_loss
images, encoder = torch.rand(2, 3, 32, 32) * 2 - 1, torch.nn.Conv2d(3, 4, 8, 8)
decoder = torch.nn.ConvTranspose2d(4, 3, 8, 8)
loss = scale_equivariance_loss(images, encoder(images), decoder, torch.nn.functional.l1_loss, factor=2)
loss.backward()
print(float(encoder.weight.grad.abs().sum()) > 0)
"""
    done = run_without(OPTIONAL, program)
    assert done.stdout.split() == ["True"], done.stderr


@pytest.mark.parametrize(
    ("hidden", "arguments", "said"),
    [
        (["typer", "rich"], ["--version"], "the command dfz needs the package 'rich', which is not installed; pip"),
        (["deepspeed"], ["check", "examples/quickstart.yaml"], "a training stage needs the package 'deepspeed', which"),
        (
            ["skimage"],
            ["check", "examples/quickstart.yaml"],
            "data of kind 'sample-photos' needs the package 'scik",
        ),
        (["scipy"], ["run", "examples/quickstart.yaml"], "a run's report needs the package 'scipy', which is not inst"),
        (["matplotlib"], ["report", "runs/none"], "this needs the package 'matplotlib', which is not installed; pip"),
    ],
)
def test_a_command_names_the_extra_before_anything_starts(hidden, arguments, said):
    """One sentence with the command to type and exit code 2, in place of a traceback."""
    program = "from diffusability.core.cli import main\nsys.argv[0] = 'dfz'\nmain()"
    done = run_without(hidden, program, *arguments)
    extra = next(extra for extra, modules in LIBRARIES.items() if hidden[0] in modules)
    text = " ".join((done.stdout + done.stderr).split())
    assert said in text
    assert f"pip install 'diffusability-core[{extra}]'" in text
    assert done.returncode == 2
    assert "Traceback" not in text


def test_a_plan_for_another_machine_needs_no_extra():
    """``dfz check --no-files``: what is missing here may be there."""
    program = "from diffusability.core.cli import main\nsys.argv[0] = 'dfz'\nmain()"
    done = run_without(["deepspeed", "skimage"], program, "check", "--no-files", "examples/quickstart.yaml")
    assert done.returncode == 0, done.stderr


def test_the_first_missing_package_is_named():
    """Everything that is installed here raises nothing; a name of our own making is missing everywhere."""
    for extra in LIBRARIES:
        assert require_extra(extra, "this") is None
    with pytest.raises(
        MissingPackageError, match=r"this needs the package 'no-such', which .* 'diffusability-eval\[x\]'"
    ):
        require_package("no_such", "this", "x", "diffusability-eval")
    assert missing_package(ModuleNotFoundError("No module named 'yaml'", name="yaml")) is None
    explained = missing_package(ModuleNotFoundError(name="sklearn.manifold"))
    assert "'scikit-learn'" in str(explained)
    assert "[photographs]" in str(explained)
