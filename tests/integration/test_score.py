import json

from diffusability.core.cli.score_command import score_autoencoders
from diffusability.core.score.scorecard_spec import ScoreOptions


def test_a_scorecard_compares_two_autoencoders(tmp_path, capsys):
    """Two random compact autoencoders on real photographs: every predictor is in the table and in results.json."""
    options = ScoreOptions(data="sample-photos", num=10, resolution=32, precision="fp32", batch_size=5)
    references = [f"compact-kl:width=16,blocks=1,latent_channels={channels}" for channels in (4, 8)]
    report = tmp_path / "score.html"
    score_autoencoders(references, options, report, 1, tmp_path / "runs")
    printed = capsys.readouterr().out
    (results_file,) = (tmp_path / "runs").glob("score-*/results.json")
    variants = json.loads(results_file.read_text())["variants"]
    assert len(variants) == 2
    for stages in variants.values():
        assert {
            "psnr",
            "kl_per_dim",
            "high_frequency_share",
            "sec",
            "spectral_slope",
            "chop_off_area",
            "viv",
            "trajectory_straightness",
            "lds",
            "cds",
            "srss",
            "density_cv",
            "scale_equivariance_error",
            "interpolation_smoothness",
            "worst_psnr",
        } <= stages["score"].keys()
    for heading in ("reconstruction", "spectrum", "velocity", "structure", "equivariance"):
        assert heading in printed
    assert "<html" in report.read_text()[:200]
