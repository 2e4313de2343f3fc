import json
import re
from urllib.parse import unquote

from diffusability.core.cli.score_command import score_autoencoders
from diffusability.core.scoring.scorecard_spec import ScoreOptions


def test_a_scorecard_compares_two_autoencoders(tmp_path, capsys):
    """Two random compact autoencoders on real photographs: every predictor is in the table and in results.json."""
    options = ScoreOptions(data="sample-photos", num=10, resolution=32, precision="fp32", batch_size=5)
    references = [f"compact-kl:width=16,blocks=1,latent_channels={channels}" for channels in (4, 8)]
    report = tmp_path / "score.html"
    score_autoencoders(references, options, report, 1, tmp_path / "runs", tmp_path / "score.json", "mine")
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "score.json").read_text())
    assert content["run"] == str(tmp_path / "runs" / "mine")
    assert [scored["reference"] for scored in content["autoencoders"].values()] == references
    for scored in content["autoencoders"].values():
        assert scored["remarks"] == ["autoencoder 'compact-kl' is untrained: all weights are random (seed 0)"]
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
        } <= scored["metrics"].keys()
    assert printed.count("random weights") >= 2
    for heading in ("reconstruction", "spectrum", "velocity", "structure", "equivariance"):
        assert heading in printed
    page = report.read_text()
    assert "<html" in page[:200]
    links = [unquote(link) for link in re.findall(r'<a href="([^"#][^"]*)"', page)]
    assert links
    assert all((report.parent / link).exists() for link in links)  # to pictures and stages of the run
    assert "local against distant similarity" in page
