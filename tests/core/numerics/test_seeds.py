"""Specs with several seeds: what is planned, in which order, what is shared, and what keeps its digest."""

import hashlib
import json

import pytest
import yaml
from tiny_runs import tiny_spec, write_spec

from diffusability.core.errors import SpecError
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.planning.check import check
from diffusability.core.planning.plan import PlannedVariant, load_plan, select


def planned(folder, *overrides, **changes):
    """The plan of the tiny spec with two variants and some keys changed; None removes one."""
    content = {**tiny_spec(), "variants": {"vanilla": {}, "se": {"stages.dit.optimizer.lr": 2.0e-3}}, **changes}
    path = write_spec(folder, {key: value for key, value in content.items() if value is not None})
    return load_plan(path, overrides)


def test_each_variant_is_planned_once_per_seed_all_with_the_first_seed_first(tmp_path):
    """Names, seeds and the order of the stages."""
    plan = planned(tmp_path, seeds=[2, 0])
    assert plan.variants == {
        "vanilla-seed2": PlannedVariant(base="vanilla", seed=2),
        "se-seed2": PlannedVariant(base="se", seed=2),
        "vanilla-seed0": PlannedVariant(base="vanilla", seed=0),
        "se-seed0": PlannedVariant(base="se", seed=0),
    }
    assert plan.bases == ["vanilla", "se"]
    seeds = [plan.variants[stage.variants[0]].seed for stage in plan.order]
    assert seeds == sorted(seeds, reverse=True)
    check(plan)


def test_a_stage_of_a_seed_is_that_of_a_run_with_this_seed_alone(tmp_path):
    """Digests against those of single-seed specs, so that a run goes on when seeds are added to it."""
    plan = planned(tmp_path, seeds=[0, 1])
    for seed in (0, 1):
        alone = planned(tmp_path, seed=seed)
        for base in ("vanilla", "se"):
            together = plan.stages[f"{base}-seed{seed}"]
            assert {name: stage.digest for name, stage in together.items()} == {
                name: stage.digest for name, stage in alone.stages[base].items()
            }
            assert [stage.seed for stage in together.values()] == [stage.seed for stage in alone.stages[base].values()]


def test_digests_are_those_of_before_there_were_seeds(tmp_path):
    """The identity written out by hand: no trace of the new keys in it, given or not."""
    plan = planned(tmp_path, seed=3)
    for stage in plan.stages["vanilla"].values():
        identity = {
            "name": stage.name,
            "seed": 3,
            "stage": {k: v for k, v in stage.spec.identity().items() if k not in ("data", "engine", "seed")},
            "data": stage.data.identity(),
            "engine": stage.engine.identity(),
            "inputs": {name: used.digest for name, used in stage.inputs.items()},
        }
        assert stage.digest == hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()
        assert stage.seed == derived_seed(3, stage.name)
    own = planned(tmp_path, "stages.pretrain.seed=3", seed=3)
    assert [stage.digest for stage in own.order] == [stage.digest for stage in plan.order]


def test_a_stage_with_a_seed_of_its_own_is_shared_by_all_seeds(tmp_path):
    """And so are stages on it that have one too; the others are not."""
    plan = planned(tmp_path, "stages.pretrain.seed=0", "stages.measure.seed=0", seeds=[0, 1])
    everybody = ("vanilla-seed0", "se-seed0", "vanilla-seed1", "se-seed1")
    by_name = {name: [stage.variants for stage in plan.order if stage.name == name] for name in plan.stages["se-seed0"]}
    assert by_name["pretrain"] == by_name["measure"] == [everybody]
    assert by_name["encode"] == [everybody[:2], everybody[2:]]
    assert by_name["dit"] == [(name,) for name in everybody]


def test_one_seed_leaves_the_names_alone(tmp_path):
    plan = planned(tmp_path, seeds=[5])
    assert plan.variants == {"vanilla": PlannedVariant(base="vanilla", seed=5), "se": PlannedVariant(base="se", seed=5)}
    assert list(planned(tmp_path, seeds=[0, 1], variants=None).stages) == ["default-seed0", "default-seed1"]


def test_a_variant_stands_for_all_of_its_seeds(tmp_path):
    """By its name in the spec, or one seed of it by the name of that."""
    plan = planned(tmp_path, seeds=[0, 1])
    assert plan.named(["se"]) == ["se-seed0", "se-seed1"]
    assert plan.named(["se-seed1", "se"]) == ["se-seed0", "se-seed1"]
    assert plan.named([]) == list(plan.stages)
    dits = [stage.variants for stage in select(plan, ["se"]) if stage.name == "dit"]
    assert dits == [("se-seed0",), ("se-seed1",)]
    assert [stage.variants for stage in select(plan, ["se-seed1"]) if stage.name == "dit"] == [("se-seed1",)]
    with pytest.raises(SpecError, match="no variant 'se-sead1'; did you mean 'se-seed1'"):
        select(plan, ["se-sead1"])


def test_the_seed_that_is_laid_over_takes_the_place_of_the_other(tmp_path):
    """On the command line, in a variant and in a spec that extends another."""
    assert list(planned(tmp_path, "seed=4", seeds=[0, 1]).specs) == ["vanilla", "se"]
    assert list(planned(tmp_path, "seeds=[0, 1]", seed=4, variants=None).specs) == ["default-seed0", "default-seed1"]
    plan = planned(tmp_path, seeds=[0, 1], variants={"a": {}, "b": {"seed": 7}})
    assert list(plan.specs) == ["a-seed0", "a-seed1", "b"]
    assert plan.variants["b"].seed == 7
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({"extends": "spec.yaml", "seed": 1}))
    assert list(load_plan(tmp_path / "more.yaml").specs) == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 0, "seeds": [0, 1]}, r"give 'seed' or 'seeds', not both at seeds \(spec\.yaml:"),
        ({"seeds": []}, r"'seeds' is empty at seeds \(spec\.yaml:.*; expected seeds, such as \[0, 1, 2\]"),
        ({"seeds": [0, 1, 0]}, r"seed 0 is given twice at seeds\.2 \(spec\.yaml:"),
        ({"seeds": [0, -1]}, r"greater than or equal to 0, got -1 at seeds\.1 \(spec\.yaml:"),
        ({"seeds": 3}, r"got 3 at seeds \(spec\.yaml:"),
        ({"seeds": [0, 1], "variants": {"a": {}, "a-seed1": {"seed": 0}}}, r"rename it at variants\.a-seed1"),
    ],
)
def test_wrong_seeds_are_named_with_their_place(changes, message, tmp_path):
    with pytest.raises(SpecError, match=message):
        planned(tmp_path, **changes)
