"""Every way to get a spec wrong that a user is likely to try, against the words that help."""

import textwrap

import pytest
from complaints import complaints
from PIL import Image

from diffusability.core.errors import SpecError
from diffusability.core.planning.check import check
from diffusability.core.planning.plan import load_plan, select

GOOD = """
name: test
data: {kind: sample-photos, resolution: 32}
stages:
  pretrain:
    kind: train
    objective: {kind: reconstruction, autoencoder: {kind: compact-kl, latent_channels: 4, spatial_factor: 4}}
    regularizers: [{kind: kl}]
    steps: 2
  encode: {kind: encode, autoencoder: {kind: stage, stage: pretrain}, num_samples: 8}
  dit:
    kind: train
    data: {kind: latents, stage: encode}
    objective: {kind: flow-matching, denoiser: {kind: dit, size: Ti/2}}
    steps: 2
  generate:
    kind: evaluate
    denoiser: {kind: stage, stage: dit}
    evaluators: [{kind: sliced-wasserstein}]
"""


def refusal(tmp_path, old, new, num_ranks=1):
    assert old in GOOD
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD.replace(old, textwrap.dedent(new)))
    with pytest.raises(SpecError) as caught:
        check(load_plan(path), num_ranks)
    return str(caught.value)


def test_the_good_spec_is_good(tmp_path):
    """What the cases below are broken from: four stages in the order of the file, and nothing to complain of."""
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD)
    plan = load_plan(path)
    assert [stage.name for stage in plan.order] == ["pretrain", "encode", "dit", "generate"]
    assert complaints(plan) == ""


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("steps: 2\n  encode", "stepz: 2\n  encode", ["unknown key 'stepz'", "did you mean 'steps'", "spec.yaml:9:5"]),
        ("{kind: kl}", "{kind: kll}", ["unknown regularizer 'kll'", "did you mean 'kl'", "regularizers.0.kind"]),
        ("{kind: kl}", "{weight: 1}", ["missing 'kind'", "stages.pretrain.regularizers.0.kind"]),
        ("{kind: kl}", "{kind: kl, weihgt: 1}", ["unknown key 'weihgt'", "did you mean 'weight'"]),
        ("{kind: kl}", "kl", ["expected a mapping with a 'kind'", "'kl'"]),
        ("{kind: kl}", "{kind: kl, weight: -1}", ["greater than or equal to 0", "-1"]),
        ("{kind: kl}", "{kind: kl, weight: .inf}", ["finite"]),
        ("{kind: kl}", "{kind: kl, weight: heavy}", ["valid number", "'heavy'", "regularizers.0.weight"]),
        ("{kind: kl}", "{kind: kl}, {kind: kl}", ["must differ in name", "kl"]),
        ("kind: encode", "kind: encoder", ["unknown stage kind 'encoder'", "did you mean 'encode'"]),
        ("steps: 2\n  encode", "encode", []),
        ("stage: pretrain}, num", "stage: dit}, num", ["later stage 'dit'"]),
        ("stage: pretrain}, num", "stage: encode}, num", ["refers to itself"]),
        ("stage: pretrain}, num", "stage: pretrian}, num", ["no stage 'pretrian'", "did you mean 'pretrain'"]),
        (
            "{kind: latents, stage: encode}",
            "{kind: latents, stage: pretrain}",
            ["kind 'train'", "expected kind encode"],
        ),
        ("denoiser: {kind: stage, stage: dit}", "denoiser: {kind: stage, stage: pretrain}", ["has no denoiser"]),
        (
            "denoiser: {kind: stage, stage: dit}",
            "denoiser: {kind: dit, size: Ti/2}",
            ["denoiser 'dit' is not a trained one", "'saved' or 'published'", "generate.denoiser.kind"],
        ),
        (
            "denoiser: {kind: stage, stage: dit}",
            "denoiser: {kind: published, path: gone.pt, family: sit, autoencoder: {kind: stage, stage: pretrain}}",
            ["'gone.pt'", "stages.generate.denoiser"],
        ),
        (
            "evaluators: [{kind: sliced-wasserstein}]",
            "evaluators: [{kind: sampling-path}]\n    sweep: {time_shift: [1, 2]}",
            ["no evaluator of this stage looks at samples, so there is nothing to sweep", "stages.generate.sweep"],
        ),
        (
            "evaluators: [{kind: sliced-wasserstein}]",
            "evaluators: [{kind: sliced-wasserstein}]\n    sweep: {guidance_scale: [1, 2]}",
            ["guidance_scale 2.0 needs a class-conditional model", "generate.sweep.guidance_scale"],
        ),
        (
            "denoiser: {kind: stage, stage: dit}",
            "autoencoder: {kind: stage, stage: pretrain}",
            ["'generated'", "this stage lacks"],
        ),
        (
            "{kind: sliced-wasserstein}",
            "{kind: frechet, num_samples: 500, features: {kind: efficientnet-lite0}}",
            ["500 images with 1280 features", "stages.generate.evaluators.0.num_samples", "force: true"],
        ),
        ("{kind: sliced-wasserstein}", "{kind: ms-ssim}", ["176 pixels a side or more, got 32x32", "use ssim"]),
        (
            "{kind: sliced-wasserstein}",
            "{kind: kid, features: {kind: i3d}}",
            ["'i3d' are of clips", "the data holds images of shape (3, 32, 32)"],
        ),
        (
            "{kind: sliced-wasserstein}",
            "{kind: frechet, features: {kind: inception, weights: gone.pth}}",
            ["'weights-inception-2015-12-05-6726825d.pth' (91 MiB)", "'gone.pth' does not exist", "download it from"],
        ),
        ("    data: {kind: latents, stage: encode}\n", "", ["trains on latents", "sample-photos"]),
        ("resolution: 32", "resolution: 30", ["30x30", "spatial factor"]),
        ("resolution: 32", "resolution: thirty", ["valid integer", "'thirty'"]),
        ("resolution: 32", "resolution: 0", ["greater than 0"]),
        ("resolution: 32", "resolution: 36", ["patch"]),
        ("size: Ti/2", "size: Tiny/2", ["'Tiny/2'"]),
        ("name: test", "name: ../test", ["folder name"]),
        ("name: test", "nome: test", ["unknown key 'nome'", "did you mean 'name'"]),
        ("data: {kind: sample-photos, resolution: 32}\n", "", ["has no data"]),
        (
            "{kind: sample-photos, resolution: 32}",
            "{kind: image-folder, path: absent-folder, resolution: 32}",
            ["'absent-folder' does not exist", "spec.yaml:3:1"],
        ),
        ("regularizers: [{kind: kl}]", "engine: {micro_batch_size: 5}", ["not divisible by engine.micro_batch_size 5"]),
        (
            "regularizers: [{kind: kl}]",
            "engine: {deepspeed: {zero_optimization: {stage: 2}}}",
            ["'zero_optimization.stage' is set by engine.zero_stage", "stages.pretrain.engine.deepspeed"],
        ),
        ("regularizers: [{kind: kl}]", "engine: {deepspeed: {train_batch_size: 2}}", ["is set by batch_size"]),
        ("steps: 2\n  generate", "regularizers: [{kind: kl}]\n    steps: 2\n  generate", ["needs 'posterior'"]),
        (
            "regularizers: [{kind: kl}]",
            "regularizers: [{kind: scale-equivariance, factors: [16]}]",
            ["16", "stages.pretrain.regularizers.0"],
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, old, new, parts):
    """One change of a good spec against the words that its message must have."""
    message = refusal(tmp_path, old, new)
    for part in [*parts, "spec.yaml"]:
        assert part in message


def test_batch_must_divide_by_the_ranks(tmp_path):
    """32 samples on 3 ranks."""
    assert "batch_size 32 is not divisible by the 3 ranks" in refusal(tmp_path, "name: test", "name: test", num_ranks=3)


def test_a_folder_without_images_is_refused(tmp_path):
    """An empty tree, one with other files, and a good one."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "notes.txt").write_text("no image")
    data = f"{{kind: image-folder, path: '{tmp_path / 'deep'}', resolution: 32}}"
    assert "holds no images" in refusal(tmp_path, "{kind: sample-photos, resolution: 32}", data)
    Image.new("RGB", (40, 40)).save(tmp_path / "deep" / "er" / "x.JPG", format="jpeg")
    path = tmp_path / "good.yaml"
    path.write_text(GOOD.replace("{kind: sample-photos, resolution: 32}", data))
    assert complaints(load_plan(path)) == ""


def test_all_problems_are_told_at_once(tmp_path):
    """Three mistakes in three places, three lines."""
    path = tmp_path / "spec.yaml"
    path.write_text(
        GOOD.replace("{kind: kl}", "{kind: kll}").replace("num_samples: 8", "num_sample: 8").replace("Ti/2", "Ty/2")
    )
    with pytest.raises(SpecError) as caught:
        load_plan(path)
    assert len(caught.value.problems) == 3


def test_a_variant_is_blamed_where_it_is_written(tmp_path):
    """The place is in the variants section, not at what it replaces."""
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD + "variants:\n  a: {}\n  b: {stages.pretrain.steps: -4}\n")
    with pytest.raises(SpecError, match=r"got -4 at stages.pretrain.steps \(spec.yaml:22:7\)"):
        load_plan(path)


def test_files_of_another_machine_are_not_looked_for(tmp_path):
    """A folder and a weight file that are not here are found missing, or not looked for; everything else is checked."""
    path = tmp_path / "spec.yaml"
    elsewhere = GOOD.replace(
        "{kind: sample-photos, resolution: 32}", "{kind: image-folder, path: /absent, resolution: 32}"
    )
    elsewhere = elsewhere.replace(
        "{kind: sliced-wasserstein}", "{kind: frechet, features: {kind: i3d, weights: /none.pt}}"
    )
    path.write_text(elsewhere)
    with pytest.raises(SpecError, match=r"'/absent' does not exist"):
        check(load_plan(path))
    with pytest.raises(SpecError, match="features 'i3d' are of clips") as caught:
        check(load_plan(path), files=())
    assert "/absent" not in str(caught.value)
    assert "/none.pt" not in str(caught.value)


def test_files_of_the_chosen_stages_alone(tmp_path):
    """Of two variants, one on data that is not here, the other can be run; what follows `until` needs no files."""
    path = tmp_path / "spec.yaml"
    path.write_text(GOOD + "variants: {here: {}, far: {data: {kind: image-folder, path: /absent, resolution: 32}}}\n")
    plan = load_plan(path)
    check(plan, files=select(plan, ["here"]))
    with pytest.raises(SpecError, match=r"'/absent' does not exist"):
        check(plan, files=select(plan, ["here", "far"]))
    path.write_text(GOOD.replace("{kind: sliced-wasserstein}", "{kind: frechet, reference: /absent.npz}"))
    plan = load_plan(path)
    check(plan, files=select(plan, until="dit"))
    with pytest.raises(SpecError, match=r"'/absent.npz' do not exist"):
        check(plan)
