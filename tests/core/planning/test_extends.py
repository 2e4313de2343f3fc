import pytest
import yaml

from diffusability.core.cli.check_command import print_resolved
from diffusability.core.cli.run_command import whole_text
from diffusability.core.errors import SpecError
from diffusability.core.planning.extends import read_spec
from diffusability.core.planning.plan import load_plan

BASE = """
name: full
data: {kind: sample-photos, resolution: 256}
stages:
  pretrain:
    kind: train
    objective: {kind: reconstruction, autoencoder: {kind: compact-kl, width: 128}}
    batch_size: 64
    steps: 10000
variants:
  control: {}
  se: {stages.pretrain.regularizers: [{kind: scale-equivariance}]}
"""
MICRO = """
extends: base/full.yaml
name: micro
data.resolution: 64
stages.pretrain.steps: 100
stages: {pretrain: {objective: {autoencoder: {width: 32}}}}
variants.kl: {stages.pretrain.regularizers: [{kind: kl}]}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "full.yaml").write_text(BASE)
    (tmp_path / "micro.yaml").write_text(MICRO)
    return tmp_path


def test_a_spec_is_laid_over_what_it_extends(folder):
    """Against the mapping written out; the base's other values stay."""
    data = read_spec(folder / "micro.yaml").data
    assert data["name"] == "micro"
    assert data["data"] == {"kind": "sample-photos", "resolution": 64}
    assert data["stages"]["pretrain"]["objective"]["autoencoder"] == {"kind": "compact-kl", "width": 32}
    assert (data["stages"]["pretrain"]["steps"], data["stages"]["pretrain"]["batch_size"]) == (100, 64)
    assert list(data["variants"]) == ["control", "se", "kl"]


def test_each_of_several_files_is_laid_over_those_before(folder):
    """The file's own values win over the second's, which win over the first's; variants of the last that has some."""
    (folder / "small.yaml").write_text("stages.pretrain: {steps: 7, batch_size: 8}\nvariants: {only: {}}\n")
    (folder / "both.yaml").write_text("extends: [micro.yaml, small.yaml]\nname: both\nstages.pretrain.steps: 3\n")
    data = read_spec(folder / "both.yaml").data
    assert data["name"] == "both"
    assert (data["stages"]["pretrain"]["steps"], data["stages"]["pretrain"]["batch_size"]) == (3, 8)
    assert data["stages"]["pretrain"]["objective"]["autoencoder"]["width"] == 32
    assert list(data["variants"]) == ["only"]


def test_plain_variants_replace_those_of_the_base(folder):
    (folder / "other.yaml").write_text("extends: micro.yaml\nname: other\nvariants: {only: {}}\n")
    plan = load_plan(folder / "other.yaml")
    assert list(plan.specs) == ["only"]
    assert plan.specs["only"].stages["pretrain"].steps == 100


def test_errors_name_the_file_that_a_value_comes_from(folder):
    (folder / "base" / "full.yaml").write_text(BASE.replace("batch_size: 64", "batch_sise: 64"))
    with pytest.raises(SpecError, match=r"batch_sise.*full\.yaml:8:5"):
        load_plan(folder / "micro.yaml")
    (folder / "base" / "full.yaml").write_text(BASE)
    (folder / "micro.yaml").write_text(MICRO.replace("steps: 100", "steps: -1"))
    with pytest.raises(SpecError, match=r"micro\.yaml:5"):
        load_plan(folder / "micro.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: nowhere.yaml", r"there is no spec file '.*nowhere\.yaml' to extend.*broken\.yaml:1:1"),
        ("extends: broken.yaml", r"in a circle: broken\.yaml -> broken\.yaml"),
        ("extends: [nowhere.yaml, micro.yaml]", r"there is no spec file '.*nowhere\.yaml' to extend"),
        ("extends: [micro.yaml, 1]", r"names a spec file or a list of them, got \['micro\.yaml', 1\]"),
        ("extends: []", r"names a spec file or a list of them, got \[\]"),
    ],
)
def test_what_cannot_be_extended_is_named(text, message, folder):
    (folder / "broken.yaml").write_text(f"{text}\nname: broken\n")
    with pytest.raises(SpecError, match=message):
        load_plan(folder / "broken.yaml")


def test_a_long_circle_is_named_whole(folder):
    for first, second in (("a", "b"), ("b", "c"), ("c", "a")):
        (folder / f"{first}.yaml").write_text(f"extends: {second}.yaml\n")
    with pytest.raises(SpecError, match=r"circle: a\.yaml -> b\.yaml -> c\.yaml -> a\.yaml"):
        load_plan(folder / "a.yaml")


def test_a_run_keeps_the_whole_spec(folder, tmp_path):
    """What is written into a run's folder, read again from elsewhere, plans the same stages."""
    path = folder / "micro.yaml"
    plan = load_plan(path)
    (tmp_path / "elsewhere").mkdir()
    kept = tmp_path / "elsewhere" / "spec.yaml"
    kept.write_text(whole_text(path, plan))
    assert [stage.digest for stage in load_plan(kept).order] == [stage.digest for stage in plan.order]
    base = folder / "base" / "full.yaml"
    assert whole_text(base, load_plan(base)) == BASE


def test_resolved_specs_are_printed_whole(folder, capsys):
    """The printed YAML of one variant, with defaults, is a spec of its own that plans the same stages."""
    print_resolved(folder / "micro.yaml", ["se"], [])
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["stages"]["pretrain"]["optimizer"]["betas"] == [0.9, 0.99]
    (folder / "printed.yaml").write_text(printed)
    (stage,) = load_plan(folder / "printed.yaml").order
    assert stage.digest == load_plan(folder / "micro.yaml").stages["se"]["pretrain"].digest
