"""Regularizers and evaluators from a file of one's own: when they are refused, and with which words."""

from pathlib import Path

import pytest
import torch
from complaints import complaints
from tiny_runs import write_spec

from diffusability.core.contracts.evaluator import Evaluator
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.errors import PluginError
from diffusability.core.planning.plan import load_plan
from diffusability.core.plugins.source_file import Target, check_target, sources_of
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import SPEC_BASES
from diffusability.core.specs.files.contents import contents

TERM = """
from diffusability.core import Regularizer
from beside import SCALE


class Size(Regularizer):
    needs = frozenset({"latents"})

    def __init__(self, power=2):
        super().__init__()
        self.power = power

    def forward(self, output, objective):
        return SCALE * output.latents.abs().pow(self.power).mean()


class NoForward(Regularizer):
    pass


def broken(context):
    raise RuntimeError(f"no luck with seed {context.seed}")


def nothing():
    return None
"""
METRIC = """
from diffusability.core import EvalResult, Evaluator


class Brightness(Evaluator):
    needs = frozenset({"images"})

    def __init__(self):
        self.values = []

    def update(self, batch):
        self.values += batch.images.flatten(1).mean(1).tolist()

    def compute(self):
        mean = sum(self.values) / len(self.values)
        return [EvalResult(metric="brightness", value=mean, num_samples=len(self.values))]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_term.py").write_text(TERM)
    (tmp_path / "my_metric.py").write_text(METRIC)
    (tmp_path / "beside.py").write_text("SCALE = 0.5\n")
    return tmp_path


def spec_of(group, target, **fields):
    return SPEC_BASES[group].model_validate({"kind": "python", "target": str(target), **fields})


def term(folder, name="Size", **options):
    return spec_of("regularizers", folder / f"my_term.py:{name}", options=options)


def test_both_groups_are_built_with_their_options(folder):
    """A module beside the file is imported with it; the term against its formula; labels and names tell two apart."""
    made = term(folder, power=3).build(BuildContext())
    assert isinstance(made, Regularizer)
    latents = torch.tensor([[1.0, -2.0]])
    output = type("Output", (), {"latents": latents})()
    assert made(output, None).item() == pytest.approx(0.5 * (1 + 8) / 2)
    metric = spec_of("evaluators", folder / "my_metric.py:Brightness")
    assert isinstance(metric.build(BuildContext()), Evaluator)
    assert (term(folder).label, metric.distinct_name()) == ("Size", "my_metric.py:Brightness {}")
    assert spec_of("regularizers", folder / "my_term.py:Size", name="mine").label == "mine"


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("my_term.py:Sise", {}, r"defines no 'Sise'; it defines Size, NoForward, broken, nothing"),
        ("my_term.py:Size", {"exponent": 2}, r"Size\(power=2\) cannot be called with options exponent: .*my_term.py:6"),
        ("my_term.py:broken", {"a": 1}, r"broken\(context\) cannot be called with options a"),
        ("none.py:Size", {}, r"there is no file '.*none.py'"),
        ("wrong.py:Size", {}, r"wrong.py:2 is not valid Python"),
    ],
)
def test_what_cannot_be_called_is_said_without_running_the_file(folder, target, options, message):
    """Names, signatures and syntax, by ``check_inputs``; a file that would delete everything is not run."""
    (folder / "wrong.py").write_text("raise SystemExit\ndef f(:\n")
    with pytest.raises(ValueError, match=message):
        spec_of("regularizers", folder / target, options=options).check_inputs()
    (folder / "runs.py").write_text("from pathlib import Path\nPath(__file__).unlink()\ndef make(): pass\n")
    check_target(Target(folder / "runs.py", "make"), {})
    assert (folder / "runs.py").is_file()


@pytest.mark.parametrize("target", ["my_term:Size", "my_term.py", "my.term.py:Size", "my_term.py:two words"])
def test_a_target_is_a_file_and_a_name(folder, target):
    with pytest.raises(ValueError, match=r"does not name code; expected FILE\.py:NAME"):
        spec_of("regularizers", target)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nothing", PluginError, "nothing returned None; expected a Regularizer"),
        ("NoForward", (PluginError, TypeError), "forward"),
        ("broken", RuntimeError, "no luck with seed 7"),
    ],
)
def test_what_a_file_makes_is_checked(folder, name, error, message):
    """Nothing at all, a class without its method, and an error inside, which stays what it is."""
    with pytest.raises(error, match=message):
        term(folder, name).build(BuildContext(seed=7))


def test_an_error_at_import_names_its_line(folder):
    """In the module beside the file, which is where it is."""
    (folder / "beside.py").write_text("SCALE = 0.5\nSCALE / 0\n")
    with pytest.raises(PluginError, match=r"my_term.py' cannot be imported: ZeroDivisionError: .*beside\.py:2"):
        term(folder).build(BuildContext())


def test_the_digest_is_of_all_files_that_are_imported(folder):
    """Another line beside the file is another content; a file that is not imported does not count."""
    assert sources_of(folder / "my_term.py") == ("beside.py", "my_term.py")
    before = contents(term(folder).files_read()["target"]).digest
    (folder / "unrelated.py").write_text("x = 1\n")
    assert contents(term(folder).files_read()["target"]).digest == before
    assert term(folder).build(BuildContext())(type("O", (), {"latents": torch.ones(1)})(), None).item() == 0.5
    (folder / "beside.py").write_text("SCALE = 0.25\n")
    assert contents(term(folder).files_read()["target"]).digest != before
    assert term(folder).build(BuildContext())(type("O", (), {"latents": torch.ones(1)})(), None).item() == 0.25


def test_a_plan_with_a_bad_file_is_refused_before_anything_starts(folder):
    """``dfz check`` of a training stage: the place in the spec, and what is wrong in the file."""
    stage = {
        "kind": "train",
        "objective": {"kind": "reconstruction", "autoencoder": {"kind": "compact-kl", "width": 16, "blocks": 1}},
        "regularizers": [{"kind": "python", "target": str(folder / "my_term.py:Size"), "options": {"exponent": 2}}],
        "steps": 1,
    }
    content = {"name": "bad", "data": {"kind": "sample-photos", "resolution": 32}, "stages": {"train": stage}}
    complaint = complaints(load_plan(write_spec(folder, content)))
    assert "cannot be called with options exponent" in complaint
    assert "stages.train.regularizers.0" in complaint
    assert complaint.count("with options exponent") == 1
    stage["regularizers"] = [{"kind": "python", "target": str(folder / "my_term.py:nothing")}]
    complaint = complaints(load_plan(write_spec(folder, content)))
    assert "nothing returned None at stages.train.regularizers.0" in complaint
