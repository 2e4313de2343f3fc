"""What a model card says of how distances were computed."""

from diffusability.core.models.exporting.evidence import Evidence
from diffusability.core.models.exporting.model_card import card_protocols


def test_a_card_says_how_distances_were_computed() -> None:
    """Reference images, crop and resize, rounding, sampler and classes; nothing where there is no distance."""
    sampler = {"kind": "euler", "steps": 40, "guidance_scale": 1.5, "guidance_channels": 3}
    network = {"features": "inception", "resize": "bilinear, 299 px, of bytes", "weights": "abc"}
    of_samples = {"sampler": sampler, "precision": "fp32", "labels": "balanced", "num_real": 50000}
    results = {
        "generation": {
            "fid": {"value": 2.0, "spec": {**network, **of_samples}},
            "fdr": {"value": 1.2, "spec": {"networks": [network, {"features": "other"}], **of_samples}},
            "sliced_wasserstein": {"value": 1.0, "spec": {"sampler": sampler}},
        },
        "measure": {"rfid": {"value": 1.0, "spec": {**network, "reference": "stats.npz 12ab"}}},
    }
    images = {"generation": "image-folder, train split, centre square, bicubic with antialiasing to 256 px"}
    evidence = Evidence(recipe={}, done={}, results=results, scaling=None, images=images)
    lines = card_protocols(evidence)
    rows = [line for line in lines if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) == 3
    assert images["generation"] in rows[0]
    for part in ("50000", "bilinear, 299 px, of bytes; weights abc", "euler, 40 steps, guidance 1.5"):
        assert part in rows[0]
    assert "of the first 3 channels, fp32, balanced classes" in rows[0]
    assert "other (no resize named; weights not named)" in rows[1]
    assert "stats.npz 12ab" in rows[2]
    assert any("rounded to bytes" in line for line in lines)
    assert card_protocols(Evidence(recipe={}, done={}, results={}, scaling=None)) == []
