"""Recipes at full scale are valid specs, on one host and on four, whether or not their data and weights are here."""

from pathlib import Path

import pytest

from diffusability.core.specs.check import check
from diffusability.core.specs.plan import load_plan

POSTER = Path(__file__).resolve().parents[2] / "recipes" / "poster"
RECIPES = sorted(POSTER.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("num_ranks", [8, 32])
def test_recipes_are_valid(path, num_ranks):
    """Capabilities, shapes, references and batches on 8 and on 32 ranks; files are left out."""
    plan = load_plan(path)
    check(plan, num_ranks, files=())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_say_how_they_are_run(path):
    """The header comment names the command with the file's own name."""
    header = path.read_text().partition("\nextends:")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert f"dfz run recipes/poster/{path.name} --nproc 8" in header


def test_stages_and_variants_of_scale_equivariance_against_kl():
    """Against the list of the paper: FluxAE itself is not fine-tuned, KL's weights are those of the names."""
    plan = load_plan(POSTER / "kl-vs-se.yaml")
    assert "finetune" not in plan.stages["vanilla"]
    weights = {
        name: [term.weight for term in plan.stages[name]["finetune"].spec.regularizers]
        for name in plan.stages
        if name[:2] == "kl"
    }
    assert weights == {
        "kl-0": [],
        **{f"kl-1e-{power}": [pytest.approx(10.0**-power)] for power in range(7, 0, -1)},
    }
    assert [term.kind for term in plan.stages["se"]["finetune"].spec.regularizers] == ["scale-equivariance"]
    everywhere = ["reconstruct", "encode", "dit-s", "generate-s", "dit-l", "generate-l"]
    assert all(sorted(set(stages) - {"finetune"}) == sorted(everywhere) for stages in plan.stages.values())
