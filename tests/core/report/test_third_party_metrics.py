"""A metric of a plugin stands wherever a built-in one does, and is known where the plugin is not installed."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from diffusability.core import BuildContext, EvaluationBatch
from diffusability.core.report import build_report
from diffusability.core.report.tables.results_table import results_text
from diffusability.core.scoring.named_autoencoders import Named
from diffusability.core.scoring.scorecard_spec import STAGE, ScoreOptions, scorecard_spec
from diffusability.core.scoring.scorecard_table import scorecard_table
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.core.stages.evaluation_results import described, results_json

EXAMPLE = Path(__file__).resolve().parents[2] / "example_plugin"
SEEDS = {"vanilla": (1.0, 1.1, 0.9), "smooth": (0.5, 0.55, 0.45)}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The example plugin's evaluator, installed by its metadata until ``undo`` is called."""
    metadata = tmp_path / "site" / "diffusability_total_variation-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    pyproject = (EXAMPLE / "pyproject.toml").read_text()
    section = '[project.entry-points."diffusability.evaluators"]\n'
    entry = pyproject.split(section)[1].split("\n")[0].replace('"', "")
    (metadata / "entry_points.txt").write_text(f"[diffusability.evaluators]\n{entry}\n")
    (metadata / "METADATA").write_text("Name: diffusability-total-variation\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(str(metadata.parent))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return monkeypatch


def measured(scale: float) -> dict[str, object]:
    """What ``results.json`` holds of latents that rise by ``scale`` along each axis, so that the metric is 2 scale."""
    spec = EvaluatorSpec.model_validate({"kind": "latent-variation"})
    evaluator = spec.build(BuildContext())
    steps = torch.arange(4.0)
    latents = scale * (steps[:, None] + steps).expand(2, 3, 4, 4)
    evaluator.update(EvaluationBatch(indices=range(2), latents=latents))
    return results_json([described(result, spec, {}) for result in evaluator.compute()])


def write_run(folder: Path) -> Path:
    """A run of two variants with three seeds each."""
    folder.mkdir()
    variants, results, seeds = {}, {}, {}
    for base, scales in SEEDS.items():
        for seed, scale in enumerate(scales):
            name = f"{base}-{seed}"
            results[name] = {STAGE: measured(scale)}
            variants[name] = {STAGE: {"kind": "evaluate", "status": "done", "directory": ""}}
            seeds[name] = {"base": base, "seed": seed}
    (folder / "run.json").write_text(json.dumps({"name": "run", "variants": variants, "variant_seeds": seeds}))
    (folder / "results.json").write_text(json.dumps({"variants": results}))
    return folder


def scorecard(run: Path) -> str:
    variants = json.loads((run / "results.json").read_text())["variants"]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(scorecard_table({name: stages[STAGE] for name, stages in variants.items()}))
    return console.export_text()


def test_a_plugins_metric_stands_where_built_in_ones_do(tmp_path: Path, plugin: pytest.MonkeyPatch) -> None:
    """Label in table, key results, verdict and glossary of the report, ``dfz show`` and the scorecard, under its group.

    The numbers are those of a ramp by hand. All the same again where the plugin is gone: results carry the words.
    """
    run = write_run(tmp_path / "run")
    spec = scorecard_spec([Named(label="a", spec={"kind": "dct"})], ScoreOptions(data="sample-photos", num=9))
    assert {"kind": "latent-variation", "num_samples": 9} in spec["stages"][STAGE]["evaluators"]
    plugin.undo()
    build_report([run])
    markdown = (run / "report.md").read_text()
    assert "| vanilla | 2.000 ± 0.2 |" in markdown
    assert "Latent TV ↓" in markdown
    assert "**smooth lowers Latent TV by 50 %" in markdown
    assert "- **Latent TV** (`latent_variation`): mean absolute difference of neighbouring latents" in markdown
    page = (run / "report.html").read_text()
    assert 'title="latent_variation: mean absolute difference of neighbouring latents' in page
    assert '<div id="glossary-metric-latent_variation"><dt>Latent TV <code>latent_variation</code>' in page
    assert "Latent TV" in results_text(run, "markdown")
    rows = [line.strip(" │┃") for line in scorecard(run).splitlines()]
    assert any(row.startswith("Latent TV") for row in rows[rows.index(next(r for r in rows if "spectrum" in r)) :])


def test_results_without_words_are_shown_by_name(tmp_path: Path, plugin: pytest.MonkeyPatch) -> None:
    """As written before results carried them, by a plugin that is not installed; damaged words count as none."""
    run = write_run(tmp_path / "run")
    content = json.loads((run / "results.json").read_text())
    for place, stages in enumerate(content["variants"].values()):
        entry = stages[STAGE]["latent_variation"]
        entry["info"] = [None, "text", {"meaning": "no label"}, {"label": 3}, {}, []][place]
    (run / "results.json").write_text(json.dumps(content))
    plugin.undo()
    build_report([run])
    assert "Latent variation ↓" in (run / "report.md").read_text()
    assert "(`latent_variation`):" not in (run / "report.md").read_text()
    assert "Latent variation" in scorecard(run)
