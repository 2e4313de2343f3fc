import json
from datetime import datetime
from pathlib import Path

import pytest
from complaints import complaints
from tiny_runs import tiny_spec, write_spec

from diffusability.core.errors import SpecError
from diffusability.core.planning.check import check, encoded_bytes_per_sample, estimate
from diffusability.core.planning.plan import load_plan, select
from diffusability.core.planning.stage_context import context_of
from diffusability.core.run.folder_writer import RunFolder

QUICKSTART = Path(__file__).resolve().parents[3] / "examples" / "quickstart.yaml"


def planned(*overrides):
    return load_plan(QUICKSTART, overrides)


def test_equal_stages_are_shared_and_different_ones_are_not():
    """The quickstart's two variants share exactly the pretraining."""
    plan = planned()
    shared = [stage.name for stage in plan.order if len(stage.variants) == 2]
    assert shared == ["pretrain"]
    assert len(plan.order) == 1 + 2 * 5
    assert plan.stages["control"]["pretrain"].directory_name == plan.stages["se"]["pretrain"].directory_name


def test_a_change_reaches_every_stage_that_depends_on_it():
    """Digests before and after a change upstream: all stages downstream change, none upstream."""
    before, after = planned().stages["se"], planned("stages.finetune.steps=7").stages["se"]
    changed = [name for name in before if before[name].digest != after[name].digest]
    assert changed == ["finetune", "measure", "encode", "dit", "generate"]


@pytest.mark.parametrize(
    ("assignment", "matters"),
    [
        ("stages.pretrain.log_every=3", False),
        ("stages.pretrain.checkpoint.every=7", False),
        ("stages.pretrain.preview.every=7", False),
        ("engine.zero_stage=1", False),
        ("engine.micro_batch_size=8", False),
        ("data.num_workers=2", False),
        ("engine.precision=fp32", True),
        ("seed=1", True),
        ("data.flip=false", True),
        ("stages.pretrain.optimizer.lr=3e-3", True),
    ],
)
def test_identity_holds_what_can_change_a_result_and_nothing_else(assignment, matters):
    """Logging, sharding and workers keep a finished stage; precision, seed, data and rates do not."""
    before, after = planned().stages["se"]["pretrain"], planned(assignment).stages["se"]["pretrain"]
    assert (before.digest != after.digest) == matters


def test_shapes_are_known_without_building_anything():
    """64 px at factor 4 with 8 channels, seen from the denoiser that is three stages away."""
    stage = planned().stages["se"]["dit"]
    assert context_of(stage).latent_shape == (8, 16, 16)
    assert estimate(stage).num_parameters > 100_000


def test_select_takes_variants_and_stops_after_a_stage():
    """What would run, in order."""
    plan = planned()
    names = [(stage.name, stage.variants) for stage in select(plan, ["se"], "measure")]
    assert names == [("pretrain", ("control", "se")), ("finetune", ("se",)), ("measure", ("se",))]
    with pytest.raises(SpecError, match="did you mean 'measure'"):
        select(plan, [], "mesure")
    with pytest.raises(SpecError, match="no variant 'x'"):
        select(plan, ["x"])


def test_the_quickstart_passes_its_own_check():
    """The example that the README runs, on one and two ranks; its batch of 32 does not go into three."""
    assert complaints(planned()) == ""
    assert complaints(planned(), num_ranks=2) == ""
    assert "batch_size 32 is not divisible by the 3 ranks" in complaints(planned(), num_ranks=3)


def test_the_size_of_a_cache_is_known_before_anything_runs():
    """The quickstart's latents, 8x16x16: mean and log variance, half precision, both flips or one."""
    both = planned().stages["se"]["encode"]
    assert encoded_bytes_per_sample(both) == 8 * 16 * 16 * 2 * 2 * 2
    unflipped = planned("stages.encode.flips=false").stages["se"]["encode"]
    assert encoded_bytes_per_sample(unflipped) == 8 * 16 * 16 * 2 * 2


def test_losses_that_do_not_fit_the_images_are_found_when_checking():
    """With the place in the file: a block that does not divide 64 pixels."""
    with pytest.raises(SpecError, match=r"block_size 7 does not divide images of 64x64 pixels at stages\.pretrain"):
        check(planned("stages.pretrain.objective.dct={block_size: 7}"))


def test_unfinished_files_of_a_killed_process_are_removed(tmp_path):
    """What safetensors and we name a file that is being written; everything else stays."""
    plan = load_plan(write_spec(tmp_path, tiny_spec()))
    stage = plan.order[0]
    folder = RunFolder(tmp_path / "runs" / plan.name)
    inner = folder.begin(stage) / "ema-snapshots"
    inner.mkdir()
    for name in (".tmpw9E2tP", "step-00000002.partial", "step-00000001.safetensors"):
        (inner / name).write_bytes(b"x")
    folder.begin(stage)
    assert [path.name for path in inner.iterdir()] == ["step-00000001.safetensors"]


@pytest.mark.parametrize("damage", [None, "{", "[1]", '{"created": 3}'])
def test_the_time_at_which_a_run_began_stays(tmp_path, damage):
    """Each stage writes the overview again; only where it is damaged is the time a new one."""
    plan = load_plan(write_spec(tmp_path, tiny_spec()))
    folder = RunFolder(tmp_path)
    overview = tmp_path / "run.json"
    began = "2025-07-14T10:32:05+0000"
    overview.write_text(json.dumps({"created": began}) if damage is None else damage)
    folder.write_overview(plan, "dfz run", {})
    created = json.loads(overview.read_text())["created"]
    assert (created == began) is (damage is None)
    assert datetime.fromisoformat(created)
