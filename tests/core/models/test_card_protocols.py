"""What a model card says of how distances were computed."""

from typing import Any

from diffusability.core.models.exporting.evidence import Evaluation
from diffusability.core.models.exporting.model_card import card_protocols
from diffusability.core.run.results import Metric

NETWORK = {"features": "inception", "resize": "bilinear, 299 px, of bytes", "weights": "abc"}


def evaluation(stage: str, split: str, **settings: dict[str, Any]) -> Evaluation:
    """Of a stage: a metric for each of these settings."""
    metrics = {name: Metric(name=name, value=1.0, settings=value) for name, value in settings.items()}
    return Evaluation(stage=stage, data="image-folder", split=split, metrics=metrics, view="centre square, 256 px")


def test_a_card_says_how_distances_were_computed() -> None:
    """Reference images, crop and resize, rounding, sampler and classes; nothing where there is no distance."""
    sampler = {"kind": "euler", "steps": 40, "guidance_scale": 1.5, "guidance_channels": 3}
    of_samples = {"sampler": sampler, "precision": "fp32", "labels": "balanced", "num_real": 50000}
    generation = evaluation(
        "generation",
        "train",
        fid={**NETWORK, **of_samples},
        fdr={"networks": [NETWORK, {"features": "other"}], **of_samples},
        sliced_wasserstein={"sampler": sampler},
    )
    measure = evaluation("measure", "validation", rfid={**NETWORK, "reference": "stats.npz 12ab"})
    lines = card_protocols([generation, measure])
    rows = [line for line in lines if line.startswith(("| generation", "| measure"))]
    assert len(rows) == 3
    for part in (
        "image-folder, train split, centre square, 256 px, 50000 images",
        "inception, bilinear, 299 px, of bytes, abc",
        "euler, 40 steps, guidance 1.5, of the first 3 channels, fp32, balanced classes",
    ):
        assert part in rows[0]
    assert "; other, no resize named, not named" in rows[1]
    assert "| statistics stats.npz 12ab |" in rows[2]
    assert any("rounded to bytes" in line for line in lines)
    assert card_protocols([evaluation("measure", "validation", psnr={})]) == []
