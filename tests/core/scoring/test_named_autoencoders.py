import json
import re

import pytest
from PIL import Image
from tiny_runs import write_spec
from typer.testing import CliRunner

from diffusability.core.cli.app import app
from diffusability.core.data.enlarged import enlarged_images
from diffusability.core.data.specs.image_folder import ImageFolderSpec
from diffusability.core.errors import SpecError
from diffusability.core.planning.plan import load_plan
from diffusability.core.scoring.named_autoencoders import named_autoencoders
from diffusability.core.scoring.scorecard_spec import STAGE, ScoreOptions, scorecard_spec
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.specs.stages import EvaluateStage


def specs(*references):
    return {named.label: named.spec for named in named_autoencoders(references)}


def saved(folder, config=None):
    folder.mkdir(parents=True)
    content = config or {"format": "diffusability-autoencoder", "autoencoder": {"kind": "compact-kl"}}
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def test_a_kind_takes_options():
    assert specs("compact-kl:latent_channels=4,patch_shortcut=false") == {
        "compact-kl-latent_channels-4-patch_shortcut-false": {
            "kind": "compact-kl",
            "latent_channels": 4,
            "patch_shortcut": False,
        }
    }


def test_a_kind_takes_a_path_where_it_has_one():
    assert specs("taesd:weights/taef2") == {"taesd-taef2": {"kind": "taesd", "path": "weights/taef2"}}
    with pytest.raises(SpecError, match=r"kind 'compact-kl' takes no path, got 'weights/x'"):
        specs("compact-kl:weights/x")


def test_a_folder_is_ours_or_diffusers(tmp_path):
    ours = saved(tmp_path / "mine" / "model")
    theirs = saved(tmp_path / "theirs", {"_class_name": "AutoencoderKL"})
    assert specs(str(tmp_path / "mine"), f"vae:{theirs}") == {
        "mine": {"kind": "saved", "path": str(ours)},
        "vae": {"kind": "diffusers", "path": str(theirs)},
    }


def test_a_run_stands_for_the_last_autoencoder_of_each_variant(tmp_path):
    """Two variants with a stage of their own, a shared earlier one, and a denoiser that does not count.

    The denoiser's configuration is the one that a run writes: it names the autoencoder that decodes its samples.
    """
    run = tmp_path / "study"
    for name in ("pretrain-0", "finetune-1", "finetune-2"):
        saved(run / "stages" / name / "model")
    decoder = {"kind": "saved", "path": "../../finetune-1/model"}
    denoiser = {"format": "diffusability-denoiser", "denoiser": {"kind": "dit"}, "autoencoder": decoder}
    saved(run / "stages" / "dit-3" / "model", denoiser)

    def stages(*names):
        return {name.split("-")[0]: {"directory": f"stages/{name}", "kind": "train"} for name in names}

    variants = {
        "se": stages("pretrain-0", "finetune-1", "dit-3"),
        "control": stages("pretrain-0", "finetune-2", "dit-3"),
    }
    (run / "run.json").write_text(json.dumps({"name": "study", "variants": variants}))
    assert specs(str(run)) == {
        "study-se": {"kind": "saved", "path": str(run / "stages/finetune-1/model")},
        "study-control": {"kind": "saved", "path": str(run / "stages/finetune-2/model")},
    }


@pytest.mark.parametrize("content", [{"format": "diffusability-denoiser", "autoencoder": {}}, {}, []])
def test_the_folder_of_another_model_is_refused(content, tmp_path):
    """A denoiser, named as its stage or as its model; a configuration of nothing known."""
    folder = saved(tmp_path / "dit-3" / "model", {"replaced": True})
    (folder / "config.json").write_text(json.dumps(content))
    for reference in (folder, folder.parent, f"mine:{folder}"):
        with pytest.raises(
            SpecError, match=r"not an autoencoder; expected KIND:PATH|holds a list; expected a JSON object"
        ):
            specs(str(reference))
    (folder / "model.safetensors").touch()
    spec = AutoencoderSpec.model_validate({"kind": "saved", "path": str(folder)})
    with pytest.raises(
        ValueError, match=r"expected 'diffusability-autoencoder'|expected an autoencoder|expected a JSON object"
    ):
        spec.check_inputs()


def test_equal_labels_are_numbered(tmp_path):
    first, second = saved(tmp_path / "a" / "vae"), saved(tmp_path / "b" / "vae")
    assert list(specs(str(first), str(second))) == ["vae-1", "vae-2"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("compact-kk:x", r"'compact-kk:x' cannot be found; did you mean 'compact-kl'\?"),
        ("compact-kl:width=16,blocks", "'blocks' in .* is not an option; expected name=value"),
        ("{tmp}", "holds neither a saved autoencoder nor a run"),
    ],
)
def test_what_names_nothing_is_refused(reference, message, tmp_path):
    with pytest.raises(SpecError, match=message):
        specs(reference.format(tmp=tmp_path))


def test_data_that_is_not_there_is_refused(tmp_path):
    named = named_autoencoders(["compact-kl"])
    with pytest.raises(SpecError, match=r"is neither a folder nor a dataset; expected .*sample-photos"):
        scorecard_spec(named, ScoreOptions(data="sample-photo"))
    with pytest.raises(SpecError, match="holds neither images nor videos"):
        scorecard_spec(named, ScoreOptions(data=str(tmp_path)))


def planned(path, *references, name=None, **fields):
    """The folder's name, and the folder of each autoencoder's stage in it."""
    options = ScoreOptions(data="sample-photos", resolution=64, **fields)
    spec = scorecard_spec(named_autoencoders(references), options, name)
    plan = load_plan(write_spec(path, spec))
    return plan.name, {variant: stages[STAGE].directory_name for variant, stages in plan.stages.items()}


def test_one_more_autoencoder_computes_only_itself(tmp_path):
    """The folder depends on data and options; a stage on its autoencoder and that one's files, whoever is beside it."""
    first, second = saved(tmp_path / "first"), saved(tmp_path / "second")
    name, alone = planned(tmp_path, str(first))
    assert name.startswith("score-sample-photos-256x64px-")
    assert planned(tmp_path, str(first)) == (name, alone)
    beside = planned(tmp_path, str(second), str(first))
    assert (beside[0], beside[1]["first"]) == (name, alone["first"])
    assert beside[1]["second"] != alone["first"]
    (first / "model.safetensors").write_bytes(b"weights")
    changed = planned(tmp_path, str(first))
    assert changed[0] == name
    assert changed[1] != alone
    for fields in ({"num": 32}, {"seed": 1}, {"full": True}, {"precision": "fp32"}):
        assert planned(tmp_path, str(first), **fields)[0] != name
    assert planned(tmp_path, str(first), name="mine")[0] == "mine"


def test_a_stage_without_a_fingerprint_is_what_it_was_before_there_was_one():
    spec = EvaluateStage.model_validate({"autoencoder": {"kind": "dct"}, "evaluators": [{"kind": "psnr"}]})
    assert "fingerprint" not in spec.identity()
    assert spec.model_copy(update={"fingerprint": "a"}).identity()["fingerprint"] == "a"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compact-kl:width=17"], "^autoencoder 'compact-kl:width=17': width: width is 17; expected a multiple of 16"),
        (["flux:no/such/folder/here"], "^autoencoder 'flux:no/such/folder/here': there is no folder"),
        (["taesd:nowhere"], "^autoencoder 'taesd:nowhere': path: folder 'nowhere' lacks encoder.safetensors"),
        (["compact-kl:colour=1"], "^autoencoder 'compact-kl:colour=1': colour: unknown key 'colour'"),
        (["compact-kl", "--resolution", "36"], "^dfz score compact-kl: an image of 36x36 pixels is not divisible"),
        (["compact-kl", "--name", "a/b"], "^--name: 'a/b' becomes a folder name"),
        (["compact-kl", "--data", "webdataset:no-*.tar"], "^--data 'webdataset:no-\\*.tar': "),
    ],
)
def test_errors_cite_what_was_typed(arguments, message, tmp_path):
    """Neither the spec that is made of the command line nor a place in it."""
    arguments = ["score", *arguments, "--runs", str(tmp_path)]
    if "--data" not in arguments:
        arguments += ["--data", "sample-photos"]
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, SpecError), error
    assert re.search(message, str(error)), str(error)
    assert ".yaml" not in str(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sides", "said"), [((64, 80), ""), ((40, 80), "1 of 2 images are smaller than the resolution")]
)
def test_enlarged_images_are_counted(sides, said, tmp_path):
    """By the shorter side of files of (side, 100) pixels against a resolution of 64."""
    for side in sides:
        Image.new("RGB", (100, side)).save(tmp_path / f"{side}.png")
    spec = ImageFolderSpec(path=tmp_path, validation_share=1, resolution=64)
    sentence = enlarged_images(spec.build(BuildContext(), "validation"), [0, 1])
    assert sentence.startswith(said)
    assert ("from 40 px" in sentence) is bool(said)


def test_classes_are_asked_for_only_with_labels():
    def kinds(**fields):
        spec = scorecard_spec(named_autoencoders(["compact-kl"]), ScoreOptions(data="sample-photos", **fields))
        return {evaluator["kind"] for evaluator in spec["stages"][STAGE]["evaluators"]}

    assert kinds(labels=True) - kinds() == {"neighbor-consistency"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("webdataset:a-{0..3}.tar", {"shards": ["a-{0..3}.tar"], "validation_share": 1.0}),
        ("huggingface:some/set", {"path": "some/set", "validation_share": 1.0}),
        ("idx-images", {}),
    ],
)
def test_datasets_are_named_by_kind_and_place(data, expected):
    spec = scorecard_spec(named_autoencoders(["compact-kl"]), ScoreOptions(data=data, resolution=48))
    assert spec["data"] == {"kind": data.partition(":")[0], "resolution": 48, **expected}


def test_folders_of_videos_give_enough_clips(tmp_path):
    """Three files for eight clips: three clips of each."""
    for name in "abc":
        (tmp_path / f"{name}.mp4").touch()
    options = ScoreOptions(data=str(tmp_path), num=8, frames=9, resolution=64)
    assert scorecard_spec(named_autoencoders(["compact-video-kl"]), options)["data"] == {
        "kind": "video-folder",
        "path": str(tmp_path),
        "validation_share": 1.0,
        "resolution": 64,
        "frames": 9,
        "clips_per_video": 3,
    }
