"""Samples evaluated at several values of their sampler's guidance or time shift."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.sampling.generation import balanced_labels
from diffusability.core.specs.components import SamplerSpec
from diffusability.core.specs.metric_info import MetricInfo
from diffusability.core.specs.stages import EvaluateStage, SweepSpec
from diffusability.core.stages.sweep import swept_results

SAMPLER = {"kind": "euler", "steps": 3}


def result(metric: str, value: float, scale: float, better: bool | None = False) -> EvalResult:
    """A number at a guidance scale."""
    return EvalResult(
        metric=metric,
        value=value,
        spread=value / 10,
        higher_is_better=better,
        num_samples=8,
        spec={"sampler": {"kind": "euler", "guidance_scale": scale}},
        info=MetricInfo(label=metric.upper(), meaning="some distance", rank=1, headline=2),
    )


def test_a_sweep_is_a_curve_and_the_best_value() -> None:
    """The smallest FID, the largest IS, no best where no direction is better, and nothing that a point lacks."""
    scores = {1.0: (5.0, 2.0), 1.5: (3.0, 4.0), 2.0: (4.0, 6.0)}
    points = {
        scale: [result("fid", fid, scale), result("is", score, scale, True), result("norm", 1.0, scale, None)]
        for scale, (fid, score) in scores.items()
    }
    points[1.0].append(result("once", 1.0, 1.0))
    by_metric = {metric.metric: metric for metric in swept_results(SweepSpec(guidance_scale=(1, 1.5, 2)), points)}
    assert set(by_metric) == {
        "fid_guidance_curve",
        "fid_best_guidance",
        "is_guidance_curve",
        "is_best_guidance",
        "norm_guidance_curve",
    }
    curve = by_metric["fid_guidance_curve"]
    assert curve.curve is not None
    assert (list(curve.curve.x), list(curve.curve.y)) == ([1, 1.5, 2], [5, 3, 4])
    assert curve.curve.y_std == pytest.approx([0.5, 0.3, 0.4])
    assert curve.spec == {"sampler": {"kind": "euler"}}
    best = by_metric["fid_best_guidance"]
    assert (best.value, best.spread, best.spec["best_guidance_scale"]) == (3.0, pytest.approx(0.3), 1.5)
    assert best.spec["sampler"]["guidance_scale"] == 1.5
    assert best.note.startswith("best of 3 values of guidance_scale, at 1.5")
    assert best.info is not None
    assert (best.info.label, best.info.headline) == ("FID, best guidance", None)
    assert by_metric["is_best_guidance"].value == 6.0


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"guidance_scale": [1, 2], "time_shift": [1, 2]}, "sweep one field of the sampler"),
        ({}, "sweep one field of the sampler"),
        ({"guidance_scale": [2, 1]}, "at least two values, rising"),
        ({"time_shift": [1]}, "at least two values, rising"),
        ({"time_shift": [0, 1]}, "greater than 0"),
    ],
)
def test_sweeps_that_are_none_are_refused(sweep: dict[str, Any], message: str) -> None:
    """Two fields, none, values that fall, a single one, and one that no sampler takes."""
    with pytest.raises(ValidationError, match=message):
        SweepSpec.model_validate(sweep)


def test_a_sweep_is_of_a_denoisers_samples() -> None:
    """Not of an autoencoder; and it leaves the other fields of the sampler as they are."""
    with pytest.raises(ValidationError, match="a sweep over a sampler's values is of use for a denoiser only"):
        EvaluateStage.model_validate(
            {
                "autoencoder": {"kind": "compact-kl"},
                "sweep": {"time_shift": [1, 2]},
                "evaluators": [{"kind": "psnr"}],
            }
        )
    sampler = SamplerSpec.model_validate({**SAMPLER, "guidance_scale": 2.0})
    shifted = dict(SweepSpec(time_shift=(0.5, 2)).samplers(sampler))
    assert [shifted_sampler.time_shift for shifted_sampler in shifted.values()] == [0.5, 2]  # type: ignore[attr-defined]
    assert {shifted_sampler.guidance_scale for shifted_sampler in shifted.values()} == {2.0}


def test_stages_without_a_sweep_keep_their_identity() -> None:
    """A stage that was run before there were sweeps is not run anew for an autoencoder."""
    stage = EvaluateStage.model_validate({"autoencoder": {"kind": "compact-kl"}, "evaluators": [{"kind": "psnr"}]})
    assert not {"sweep", "labels", "fingerprint"} & set(stage.identity())


def test_balanced_labels_hold_each_class_equally_often() -> None:
    """In every 7 samples of 7 classes, in an order of their own; the k-th depends on the seed and k alone."""
    labels = balanced_labels(3, range(70), 7)
    assert torch.bincount(labels[:49], minlength=7).tolist() == [7] * 7
    assert not torch.equal(labels[:7], labels[7:14])
    assert balanced_labels(3, [69, 8, 30], 7).tolist() == labels[[69, 8, 30]].tolist()
    assert not torch.equal(balanced_labels(4, range(70), 7), labels)
