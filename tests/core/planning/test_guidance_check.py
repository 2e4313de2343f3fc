"""Guidance by classes of models without classes is refused before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from complaints import complaints
from tiny_runs import tiny_spec, write_spec

from diffusability.core.errors import SpecError
from diffusability.core.planning.check import check
from diffusability.core.planning.guidance_check import guidance_findings
from diffusability.core.planning.plan import load_plan
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.model_references import StageDenoiserSpec


def findings(tmp_path: Path, spec: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as caught:
        check(load_plan(write_spec(tmp_path, spec)))
    return str(caught.value)


def unconditional() -> dict[str, Any]:
    spec = tiny_spec()
    spec["stages"]["dit"]["objective"]["denoiser"]["class_conditional"] = False
    return spec


def test_guiding_an_unconditional_model_is_refused_at_its_place(tmp_path: Path) -> None:
    """Messages name the scale, the reason and the place: in an evaluate stage, a preview, an evaluation in training."""
    spec = unconditional()
    guided = {"kind": "euler", "guidance_scale": 2.5}
    spec["stages"]["generate"]["sampler"] = guided
    spec["stages"]["dit"]["preview"]["sampler"] = guided
    spec["stages"]["dit"]["evaluate"]["sampler"] = guided
    message = findings(tmp_path, spec)
    for place in ("generate.sampler", "dit.preview.sampler", "dit.evaluate.sampler"):
        assert f"stages.{place}.guidance_scale" in message
    assert "guidance_scale 2.5 needs a class-conditional model" in message
    assert "the denoiser of stage 'dit' has class_conditional false" in message


def test_data_without_labels_have_no_classes_either(tmp_path: Path) -> None:
    """The message names the data's stage."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    spec = tiny_spec()
    spec["data"] = {"kind": "image-folder", "path": str(tmp_path / "images"), "resolution": 32, "labels": "none"}
    spec["stages"]["generate"]["sampler"] = {"kind": "euler", "guidance_scale": 2.0}
    assert "the data of stage 'encode' have labels 'none'" in findings(tmp_path, spec)


@pytest.mark.parametrize(
    ("data", "setting"),
    [
        ({"kind": "sample-photos", "resolution": 32}, "no labels (kind 'sample-photos')"),
        ({"kind": "idx-images", "labels": False}, "labels false"),
        ({"kind": "webdataset", "shards": "a.tar", "resolution": 32}, "label null"),
        ({"kind": "huggingface", "path": "user/dataset", "resolution": 32}, "label null"),
        ({"kind": "video-folder", "path": "."}, "labels 'none'"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_every_dataset_says_that_it_has_no_labels(tmp_path: Path, data: dict[str, Any], setting: str) -> None:
    """The scale and the data's setting in the finding, without opening the data; none for data with labels."""
    spec = tiny_spec() | {"data": data}
    spec["stages"]["generate"]["sampler"] = {"kind": "euler", "guidance_scale": 2.0}
    labelled = data | {
        "idx-images": {"labels": True},
        "webdataset": {"label": "cls"},
        "huggingface": {"label": "label"},
        "video-folder": {"labels": "folder"},
    }.get(data["kind"], {"kind": "idx-images", "channels": 3})
    messages = {}
    for name, dataset in (("without", data), ("with", labelled)):
        plan = load_plan(write_spec(tmp_path, spec | {"data": dataset}))
        messages[name] = [message for _, message in guidance_findings(plan.stages["default"]["generate"])]
    assert messages["without"] == [
        "guidance_scale 2.0 needs a class-conditional model, and the data of stage 'encode' have"
        f" {setting}; expected guidance_scale 1, or a guide"
    ]
    assert messages["with"] == []


def test_files_say_that_they_have_no_classes(tmp_path: Path) -> None:
    """A cache at a path and a saved denoiser whose JSON has num_classes null, against ones of ten classes."""
    folder = tmp_path / "made"
    folder.mkdir()
    spec = tiny_spec()
    spec["stages"]["generate"] |= {
        "sampler": {"kind": "euler", "guidance_scale": 2.0},
        "denoiser": {"kind": "saved", "path": str(folder)},
    }
    saved = {"kind": "saved", "path": str(folder)}
    spec["stages"]["dit"]["data"] = {"kind": "latents", "path": str(folder), "autoencoder": saved}
    spec["stages"]["dit"]["preview"]["sampler"] = {"kind": "euler", "guidance_scale": 3.0}
    del spec["stages"]["encode"]
    for classes, expected in ((10, []), (None, ["num_classes null", "num_classes null in cache.json"])):
        (folder / "config.json").write_text(json.dumps({"num_classes": classes}))
        (folder / "cache.json").write_text(json.dumps({"num_classes": classes, "shape": [4, 8, 8]}))
        stages = load_plan(write_spec(tmp_path, spec)).stages["default"]
        messages = [message for name in ("generate", "dit") for _, message in guidance_findings(stages[name])]
        assert len(messages) == len(expected)
        assert all(
            f" has {said};" in message or f" have {said};" in message
            for said, message in zip(expected, messages, strict=True)
        )


def test_autoguidance_and_scale_one_are_fine(tmp_path: Path) -> None:
    """A guide takes the place of classes, at a scale that is refused without it; at scale 1 nothing is guided."""
    spec = unconditional()
    guided = {"kind": "heun", "guidance_scale": 2.0}
    fine: list[dict[str, Any]] = [{"guide": {"kind": "stage", "stage": "dit"}}, {"guidance_scale": 1.0}]
    for change in fine:
        spec["stages"]["generate"]["sampler"] = guided | change
        assert complaints(load_plan(write_spec(tmp_path, spec))) == ""
    spec["stages"]["generate"]["sampler"] = guided
    assert "needs a class-conditional model" in complaints(load_plan(write_spec(tmp_path, spec)))


def test_a_guide_must_come_from_a_stage_that_trains_a_denoiser(tmp_path: Path) -> None:
    """The message says which stage was named and what it trains; stages that do not exist are named too."""
    spec = unconditional()
    sampler = {"kind": "heun", "guidance_scale": 2.0, "guide": {"kind": "stage", "stage": "pretrain"}}
    spec["stages"]["generate"]["sampler"] = sampler
    assert "stage 'pretrain' trains with objective 'reconstruction', which has no denoiser" in findings(tmp_path, spec)
    sampler["guide"] = {"kind": "stage", "stage": "dti"}
    assert "dti" in findings(tmp_path, spec)


def test_a_stages_denoiser_may_be_any_of_its_averages(tmp_path: Path) -> None:
    """The folder that a spec refers to; an average that is not there is refused, with the ones that are."""
    stage = tmp_path / "dit"
    for name in ("model", "model-half-life-50", "model-sigma-rel-0.1"):
        (stage / name).mkdir(parents=True)
    context = BuildContext(stage_directory=lambda name: tmp_path / name)

    def folder(average: str | None) -> Path:
        return StageDenoiserSpec(stage="dit", average=average).trained_in(context)

    assert folder(None) == stage / "model"
    assert folder("half-life-50") == stage / "model-half-life-50"
    with pytest.raises(SpecError, match=r"no average 'half-life-5'; did you mean 'half-life-50'\? it has .*sigma-rel"):
        folder("half-life-5")
