"""A changed spec beside what was run before: what goes on, what is done anew and why, what an upgrade leaves done."""

import json

import pytest
from tiny_runs import tiny_spec, write_spec

from diffusability.core.planning.plan import digest_of, load_plan
from diffusability.core.run.earlier_stages import adopt, adoptable, earlier_stage, take_over
from diffusability.core.run.folder_writer import IDENTITY, RunFolder, read_json


@pytest.fixture
def run(tmp_path):
    """A run whose pretraining has a checkpoint after steps 10 and 12, of a spec that is then changed."""
    path = write_spec(tmp_path, tiny_spec())
    folder = RunFolder(tmp_path / "runs")
    plan = load_plan(path)
    for stage in plan.order:
        folder.begin(stage)
        folder.finish(stage, 1.0, 1, "fp32")
    pretrain = folder.stage(plan.stages["default"]["pretrain"])
    for step in (10, 12):
        (pretrain / f"checkpoints/step-{step:08d}").mkdir(parents=True)
        (pretrain / f"checkpoints/step-{step:08d}/weights").write_text(str(step))
    (pretrain / "metrics.jsonl").write_text('{"step": 12}\n')

    def changed(*overrides):
        plan = load_plan(path, overrides)
        return plan.stages["default"], {stage.directory_name for stage in plan.order}

    return folder, changed


def test_more_steps_go_on_from_the_newest_checkpoint(run):
    """The checkpoint and the log are taken over; the earlier folder keeps its own."""
    folder, changed = run
    stages, planned = changed("stages.pretrain.steps=20")
    before = folder.root / "stages" / changed()[0]["pretrain"].directory_name
    earlier = earlier_stage(stages["pretrain"], folder, planned)
    assert str(earlier) == "continue: 12 -> 20 steps"
    assert earlier.step == 12
    said = take_over(stages["pretrain"], folder, planned)
    assert said == f"goes on after step 12 of {before.name}, which had 12 steps; now 20"
    now = folder.stage(stages["pretrain"])
    assert (now / "checkpoints/step-00000012/weights").read_text() == "12"
    assert (now / "metrics.jsonl").read_text() == '{"step": 12}\n'
    with (now / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13}\n')
    assert (before / "metrics.jsonl").read_text() == '{"step": 12}\n'
    assert not (now / "done.json").exists()
    assert earlier_stage(stages["pretrain"], folder, planned) is None
    assert not list(now.parent.glob(".*"))


def test_fewer_steps_begin_anew(run):
    """A longer training is no beginning of a shorter one."""
    folder, changed = run
    stages, planned = changed("stages.pretrain.steps=6")
    assert str(earlier_stage(stages["pretrain"], folder, planned)) == "redo: steps 12 -> 6"
    assert take_over(stages["pretrain"], folder, planned) is None


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("stages.pretrain.optimizer.lr=0.0005",), "redo: optimizer.lr 0.001 -> 0.0005"),
        (("stages.pretrain.steps=20", "stages.pretrain.batch_size=8"), "redo: steps 12 -> 20, batch_size 4 -> 8"),
        (("data.resolution=64",), "redo: data.resolution 32 -> 64"),
        (("engine.precision=bf16",), "redo: engine.precision fp32 -> bf16"),
        (("stages.pretrain.ema=null",), "redo: ema"),
    ],
)
def test_any_other_change_is_named_with_its_old_value(run, overrides, said):
    """By the path that a person would write."""
    folder, changed = run
    stages, planned = changed(*overrides)
    shown = str(earlier_stage(stages["pretrain"], folder, planned))
    assert shown.startswith("redo: ")
    for change in said.removeprefix("redo: ").split(", "):
        assert change in shown


def test_a_variant_is_nobodys_earlier_stage(run, tmp_path):
    """What the same plan still wants is not gone on from: its variants differ on purpose."""
    folder, _ = run
    content = tiny_spec() | {"variants": {"short": {}, "long": {"stages.pretrain.steps": 20}}}
    (tmp_path / "variants").mkdir()
    plan = load_plan(write_spec(tmp_path / "variants", content))
    planned = {stage.directory_name for stage in plan.order}
    assert folder.is_done(plan.stages["short"]["pretrain"])
    assert earlier_stage(plan.stages["long"]["pretrain"], folder, planned) is None


def without(path, *fields):
    """Rewrites a recorded identity as an earlier version, which did not know some fields of the stage, wrote it."""
    content = json.loads(path.read_text())
    for field in fields:
        *parents, name = field.split(".")
        place = content
        for parent in parents:
            place = place[parent]
        del place[name]
    path.write_text(json.dumps(content))


def test_fields_of_a_later_version_leave_done_what_is_done(run):
    """At their defaults; the stages that use such a stage follow, with its new digest."""
    folder, changed = run
    stages, planned = changed()
    names = ("pretrain", "measure", "encode", "dit", "generate")
    renamed = {}
    for name in names:  # as they lay there before the field was thought of: under other digests
        own = folder.stage(stages[name])
        if name == "pretrain":
            without(own / IDENTITY, "stage.gradient_clip")
        content = read_json(own / IDENTITY)
        content["inputs"] = {used: renamed[digest] for used, digest in content["inputs"].items()}
        (own / IDENTITY).write_text(json.dumps(content))
        renamed[stages[name].digest] = digest_of(content)
        done = json.loads((own / "done.json").read_text()) | {"digest": digest_of(content)}
        (own / "done.json").write_text(json.dumps(done))
        own.rename(own.with_name(f"{name}-{digest_of(content)[:8]}"))
    order = [stages[name] for name in names]
    assert [stage.name for stage, _ in adoptable(order, folder, planned).values()] == list(names)
    adopt(order, folder, planned)
    assert all(folder.is_done(stage) for stage in order)
    assert len(list((folder.root / "stages").iterdir())) == len(names)


def test_a_later_field_that_changes_what_is_done_does_not(run):
    """Encoding had no precision and computed in float32: its absence means that, not today's default."""
    folder, changed = run
    stages, planned = changed("stages.encode.precision=auto")
    own = folder.stage(changed()[0]["encode"])
    without(own / IDENTITY, "stage.precision")
    own.rename(own.with_name("encode-00000000"))
    earlier = earlier_stage(stages["encode"], folder, planned)
    assert str(earlier) == "redo: precision fp32 -> auto"
    stages, planned = changed("stages.encode.precision=fp32")
    assert not earlier_stage(stages["encode"], folder, planned).changed


def test_folders_without_a_readable_identity_are_passed_over(run):
    """Of versions that did not write it, or cut short."""
    folder, changed = run
    stages, planned = changed("stages.pretrain.steps=20")
    own = folder.stage(changed()[0]["pretrain"])
    (own / IDENTITY).write_text('{"name"')
    assert earlier_stage(stages["pretrain"], folder, planned) is None
    (own / IDENTITY).unlink()
    assert earlier_stage(stages["pretrain"], folder, planned) is None
