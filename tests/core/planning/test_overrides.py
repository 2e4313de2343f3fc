"""``--set`` with ``--variant`` on a run that is there already, on run folders that are written by hand."""

import io
import json

import pytest
from rich.console import Console
from tiny_runs import tiny_spec, write_spec

from diffusability.core.cli.run_command import keep_spec, say_what_changes
from diffusability.core.errors import SpecError
from diffusability.core.planning.overrides import with_overrides
from diffusability.core.planning.plan import load_plan
from diffusability.core.planning.source import parse_source
from diffusability.core.report.comparison import compare
from diffusability.core.run.folder_reader import read_run
from diffusability.core.run.folder_writer import RunFolder, write_json


@pytest.fixture
def study(tmp_path):
    """Two variants whose DiT and samples are their own, and the folder of their run."""
    content = tiny_spec() | {"variants": {"control": {}, "se": {"stages": {"dit": {"optimizer": {"lr": 2.0e-3}}}}}}
    return write_spec(tmp_path, content), RunFolder(tmp_path / "runs" / "tiny")


def pretend(plan, folder):
    """Marks every stage of the chosen variants as done, with a result, as ``dfz run`` would."""
    folder.root.mkdir(parents=True, exist_ok=True)
    for variant in plan.chosen:
        for stage in [stage for stage in plan.stages[variant].values() if not folder.is_done(stage)]:
            directory = folder.begin(stage)
            write_json(directory / "results.json", {"psnr": {"value": float(len(plan.overrides))}})
            folder.finish(stage, 1.0, 1, "fp32")
    folder.write_overview(plan, "dfz run", {})
    folder.write_results(plan)


def run_again(path, folder, *overrides, only=()):
    plan = load_plan(path, overrides, only)
    folder.root.mkdir(parents=True, exist_ok=True)
    said = io.StringIO()
    say_what_changes(Console(file=said, width=200), plan, folder)
    keep_spec(path, plan, folder)
    pretend(plan, folder)
    return plan, said.getvalue().splitlines()


def results(folder):
    variants = json.loads((folder.root / "results.json").read_text())["variants"]
    return {
        name: {stage: metrics["psnr"]["value"] for stage, metrics in stages.items()}
        for name, stages in variants.items()
    }


def test_other_variants_keep_their_results_and_their_place(study):
    """A change of one variant, then one of the other, then none at all: each time only what was asked for changes."""
    path, folder = study
    run_again(path, folder)
    before = json.loads((folder.root / "run.json").read_text())["variants"]
    _, said = run_again(path, folder, "stages.dit.steps=9", only=["se"])
    after = json.loads((folder.root / "run.json").read_text())
    assert after["variants"]["control"] == before["control"]
    assert list(after["variants"]) == ["control", "se"]
    assert set(results(folder)["control"].values()) == {0.0}
    assert results(folder)["se"]["dit"] == 1.0
    assert said == ["se: --set stages.dit.steps=9"]
    assert after["overrides"] == {"se": ["stages.dit.steps=9"]}
    _, said = run_again(path, folder, "stages.dit.steps=5", "stages.dit.batch_size=2", only=["control"])
    assert (results(folder)["se"]["dit"], results(folder)["control"]["dit"]) == (1.0, 2.0)
    assert said[-1] == "se: kept as it was run before, from a spec that differs from this one"
    recorded = read_run(folder.root)
    assert {stage.status for stages in recorded.variants.values() for stage in stages.values()} == {"done"}
    assert "changed on the command line: stages.dit.steps=9 (se)" in compare([recorded]).remarks
    run_again(path, folder)
    assert {value for stages in results(folder).values() for value in stages.values()} == {0.0}
    assert "overrides" not in (folder.root / "spec.yaml").read_text()


def test_the_kept_spec_says_what_was_run(study):
    """``spec.yaml``, planned without a command line, gives the stages of both variants, changed and kept."""
    path, folder = study
    first, _ = run_again(path, folder)
    assert (folder.root / "spec.yaml").read_text() == path.read_text()
    second, _ = run_again(path, folder, "stages.dit.steps=9", only=["se"])
    kept = load_plan(folder.root / "spec.yaml")

    def digests(plan, variant):
        return [stage.digest for stage in plan.stages[variant].values()]

    assert digests(kept, "se") == digests(second, "se")
    assert digests(kept, "control") == digests(first, "control")
    assert "# se: --set stages.dit.steps=9\n" in (folder.root / "spec.yaml").read_text()
    third, _ = run_again(path, folder, "stages.dit.batch_size=2", only=["control"])
    kept = load_plan(folder.root / "spec.yaml")
    assert digests(kept, "se") == digests(second, "se")
    assert digests(kept, "control") == digests(third, "control")


def test_variants_that_never_finished_anything_are_planned_anew(study):
    """Nothing of them is lost, so the record of an earlier spec does not stay."""
    path, folder = study
    folder.root.mkdir(parents=True)
    folder.write_overview(load_plan(path, ["stages.dit.steps=3"]), "dfz run", {})
    plan = load_plan(path, [], ["se"])
    assert folder.kept_variants(plan) == {}


def test_one_seed_is_meant_by_its_name(tmp_path):
    """``--variant se-seed1 --set ...``: the other seeds keep what they have; an unknown variant is refused."""
    content = tiny_spec() | {"seeds": [0, 1], "variants": {"control": {}, "se": {}}}
    path, folder = write_spec(tmp_path, content), RunFolder(tmp_path / "runs" / "tiny")
    run_again(path, folder)
    run_again(path, folder, "stages.dit.steps=9", only=["se-seed1"])
    assert {name: stages["dit"] for name, stages in results(folder).items()} == {
        "control-seed0": 0.0,
        "se-seed0": 0.0,
        "control-seed1": 0.0,
        "se-seed1": 1.0,
    }
    with pytest.raises(SpecError, match="there is no variant 'sea'"):
        load_plan(path, ["stages.dit.steps=9"], ["sea"])


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("a: {b: 1}", {"default": ["a.b=2"]}, {"a": {"b": 2}}),
        ("variants: {x: , y: {c: 1}}", {"x": ["a.b=2"]}, {"variants": {"x": {"a.b": 2}, "y": {"c": 1}}}),
        ("variants: {x: {a.b: 1, c: 2}}", {"x": ["a.b=3"]}, {"variants": {"x": {"c": 2, "a.b": 3}}}),
        ("variants: {x: {seeds: [1]}}", {"x": ["seed=3"]}, {"variants": {"x": {"seed": 3}}}),
        ("name: n\nvariants: {x: {}}", {"x": ["name=m"]}, {"name": "m", "variants": {"x": {}}}),
    ],
)
def test_changes_become_part_of_the_variants(text, changes, expected):
    assert with_overrides(parse_source(text, "spec"), changes) == expected
