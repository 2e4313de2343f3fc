"""Recipes are valid specs, at full scale on one host and on four, whether or not their data and weights are here."""

from pathlib import Path

import pytest
from complaints import complaints

from diffusability.core.planning.plan import load_plan

POSTER = Path(__file__).resolve().parents[2] / "recipes" / "poster"
RECIPES = sorted(POSTER.glob("*.yaml"))
MICRO = sorted((POSTER.parent / "micro").glob("*.yaml"))
TAEF2 = Path(__file__).resolve().parents[3] / "shared" / "data" / "taef2"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A working directory with the folder ``taef2`` that two micro recipes read the layout of an autoencoder from."""
    monkeypatch.chdir(tmp_path)
    if TAEF2.is_dir():
        (tmp_path / "taef2").symlink_to(TAEF2)


def wants_taef2(path):
    return "path: taef2" in path.read_text() and not TAEF2.is_dir()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("num_ranks", [8, 32])
def test_recipes_are_valid(path, num_ranks):
    """Capabilities, shapes, references and batches on 8 and on 32 ranks; files are left out."""
    assert complaints(load_plan(path), num_ranks, files=()) == ""


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_say_how_they_are_run(path):
    """The header comment names the command with the file's own name."""
    header = path.read_text().partition("\nextends:")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert f"dfz run recipes/poster/{path.name} --nproc 8" in header


@pytest.mark.parametrize("path", MICRO, ids=lambda path: path.stem)
def test_micro_recipes_are_valid(path, weights):
    """On one rank; the command stands in the header."""
    if wants_taef2(path):
        pytest.skip("the weights of TAEF2 are not here")
    assert complaints(load_plan(path), files=()) == ""
    assert f"dfz run recipes/micro/{path.name}" in path.read_text().partition("\nname:")[0]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_has_a_micro_twin(path, weights):
    """Of the same name, laid over it: no stage that trains or measures is lost but those that the twin takes out."""
    if wants_taef2(POSTER.parent / "micro" / path.name):
        pytest.skip("the weights of TAEF2 are not here")
    twin = load_plan(POSTER.parent / "micro" / path.name)
    stages = {name for variant in load_plan(path).stages.values() for name in variant}
    kept = {name for variant in twin.stages.values() for name in variant}
    assert stages - kept <= {"dit-l", "generate-l"}


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
