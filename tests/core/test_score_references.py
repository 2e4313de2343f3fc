import json

import pytest

from diffusability.core.errors import SpecError
from diffusability.core.score.references import named_autoencoders
from diffusability.core.score.scorecard_spec import STAGE, ScoreOptions, scorecard_spec
from diffusability.core.specs.components import AutoencoderSpec


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
        with pytest.raises(SpecError, match="not an autoencoder; expected KIND:PATH"):
            specs(str(reference))
    (folder / "model.safetensors").touch()
    spec = AutoencoderSpec.model_validate({"kind": "saved", "path": str(folder)})
    with pytest.raises(ValueError, match="expected 'diffusability-autoencoder'"):
        spec.check_inputs()


def test_equal_labels_are_numbered(tmp_path):
    first, second = saved(tmp_path / "a" / "vae"), saved(tmp_path / "b" / "vae")
    assert list(specs(str(first), str(second))) == ["vae-1", "vae-2"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("compact-kk:x", r"'compact-kk:x' cannot be found; did you mean 'compact-kl'\?"),
        ("compact-kl:width=16,blocks", "'blocks' in .* is no option; expected name=value"),
        ("{tmp}", "holds neither a saved autoencoder nor a run"),
    ],
)
def test_what_names_nothing_is_refused(reference, message, tmp_path):
    with pytest.raises(SpecError, match=message):
        specs(reference.format(tmp=tmp_path))


def test_data_that_is_not_there_is_refused(tmp_path):
    named = named_autoencoders(["compact-kl"])
    with pytest.raises(SpecError, match=r"is no folder and no dataset; expected .*sample-photos"):
        scorecard_spec(named, ScoreOptions(data="sample-photo"))
    with pytest.raises(SpecError, match="holds neither images nor videos"):
        scorecard_spec(named, ScoreOptions(data=str(tmp_path)))


def test_a_changed_model_is_scored_anew(tmp_path):
    """The run's name depends on the files of the models: equal files give the same run, which is kept."""
    folder = saved(tmp_path / "vae")
    options = ScoreOptions(data="sample-photos")

    def name():
        return scorecard_spec(named_autoencoders([str(folder)]), options)["name"]

    before = name()
    assert name() == before
    (folder / "model.safetensors").write_bytes(b"weights")
    assert name() != before


def test_classes_are_asked_for_only_with_labels():
    def kinds(**fields):
        spec = scorecard_spec(named_autoencoders(["compact-kl"]), ScoreOptions(data="sample-photos", **fields))
        return {evaluator["kind"] for evaluator in spec["stages"][STAGE]["evaluators"]}

    assert kinds(labels=True) - kinds() == {"neighbor-consistency"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("webdataset:a-{0..3}.tar", {"shards": ["a-{0..3}.tar"], "validation_shards": ["a-{0..3}.tar"]}),
        ("huggingface:some/set", {"path": "some/set"}),
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
        "validation_path": str(tmp_path),
        "resolution": 64,
        "frames": 9,
        "clips_per_video": 3,
    }
