"""Commands on one finished run that is shaped like the quickstart: two variants from a shared start, a DiT of each."""

import csv
import io
import json

import pytest
import torch
from quickstart_run import dfz_here as dfz
from tiny_runs import run_here, tiny_spec, write_spec

from diffusability.core import load_generator
from diffusability.core.cli.run_command import run_spec
from diffusability.core.data.latents.latent_cache import read_index
from diffusability.core.errors import SpecError
from diffusability.core.scoring.named_autoencoders import named_autoencoders

pytestmark = pytest.mark.integration


def test_a_run_with_denoisers_is_scored_by_its_autoencoders(finished):
    """The fine-tuned autoencoder of each variant, not the DiT that was trained after it."""
    record = json.loads((finished / "run.json").read_text())["variants"]
    paths = {named.label: named.spec["path"] for named in named_autoencoders([str(finished)])}
    assert paths == {
        f"study-{variant}": str(finished / record[variant]["finetune"]["directory"] / "model")
        for variant in ("control", "se")
    }


def test_numbers_that_the_data_cannot_give_are_said(finished):
    """Of encoding and evaluating: in the folder of the stage and in the report; numbers that it can give are not."""
    (encode, _) = sorted(finished.glob("stages/encode-*"))
    assert read_index(encode / "latents").num_samples == 24
    said = "num_samples is 5000, and the train data has 24; all 24 are used"
    assert (encode / "remarks.txt").read_text() == said + "\n"
    (measure, _) = sorted(finished.glob("stages/measure-*"))
    assert (measure / "remarks.txt").read_text() == (
        "psnr: num_samples is 40, and the validation data has 16; all 16 are used\n"
    )
    for page in ("report.html", "report.md"):
        text = (finished / page).read_text()
        assert said in text.replace("\\", "")
        assert "Before you read the numbers" in text
    assert "5000, and the train data has 24" in dfz("check", finished / "spec.yaml")


def test_fewer_samples_later_leave_no_picture_of_earlier_settings(run):
    """Three, then two of another seed into the same folder: two pictures, a sheet, and the record of these two."""
    to = run / "pictures"
    arguments = ("sample", run, "--variant", "se", "--steps", 1, "--to", to)
    dfz(*arguments, "--num", 3)
    (to / "notes.txt").write_text("mine")
    dfz(*arguments, "--num", 2, "--seed", 1)
    assert sorted(path.name for path in to.iterdir()) == [
        "00000.png",
        "00001.png",
        "notes.txt",
        "samples.json",
        "sheet.png",
    ]
    about = json.loads((to / "samples.json").read_text())
    assert (about["seed"], [entry["file"] for entry in about["samples"]]) == (1, ["00000.png", "00001.png"])


def test_untrained_autoencoders_are_encoded_decoded_and_said(tmp_path):
    """A denoiser on latents of random weights: it trains, its samples are decoded by these very weights, all say so."""
    compact = {"kind": "compact-kl", "latent_channels": 4, "spatial_factor": 4, "width": 16, "blocks": 1}
    content = tiny_spec() | {"name": "untrained"}
    content["data"] |= {"size": 8, "validation_size": 8}
    stages = content["stages"]
    stages["measure"] |= {"autoencoder": compact, "evaluators": [{"kind": "psnr", "num_samples": 8}]}
    stages["encode"] |= {"autoencoder": compact, "num_samples": 8}
    stages["dit"] |= {"steps": 1, "evaluate": None, "ema": None, "preview": {"every": 1, "num_images": 1}}
    stages["generate"] |= {"sampler": {"kind": "euler", "steps": 1}}
    content["stages"] = {name: stages[name] for name in ("measure", "encode", "dit", "generate")}
    torch.manual_seed(1)
    _, folder = run_here(write_spec(tmp_path, content), tmp_path / "runs")
    said = "autoencoder 'compact-kl' is untrained: all weights are random"
    for stage in ("measure", "encode"):
        (remarks,) = folder.root.glob(f"stages/{stage}-*/remarks.txt")
        assert said in remarks.read_text()
    entry = json.loads((folder.root / "results.json").read_text())["variants"]["default"]["measure"]["psnr"]
    assert entry["spec"]["random_weights"] == "all weights (seed 0)"
    assert said in (folder.root / "report.html").read_text().replace("&#39;", "'")
    torch.manual_seed(2)
    first = load_generator(folder.root, sampler={"steps": 1}).at([0]).images
    torch.manual_seed(3)
    torch.testing.assert_close(load_generator(folder.root, sampler={"steps": 1}).at([0]).images, first, rtol=0, atol=0)
    for again in folder.root.glob("stages/measure-*/done.json"):
        again.unlink()
    torch.manual_seed(4)
    run_here(tmp_path / "spec.yaml", tmp_path / "runs", until="measure")
    results = json.loads((folder.root / "results.json").read_text())["variants"]["default"]["measure"]
    assert results["psnr"]["value"] == entry["value"]


def test_results_are_shown_in_each_format(run):
    """A row for each metric, a column for each variant; csv and json hold the numbers of results.json."""
    results = json.loads((run / "results.json").read_text())["variants"]
    shown = dfz("show", run)
    for word in ("PSNR", "control", "se", "baseline", "measure", "generate", f"report: {run / 'report.html'}"):
        assert word in " ".join(shown.split()) or word in "".join(shown.split())
    rows = list(csv.DictReader(io.StringIO(dfz("show", run, "--format", "csv"))))
    records = json.loads(dfz("show", run, "--format", "json"))
    assert len(rows) == len(records)
    (of_se,) = [record for record in records if (record["metric"], record["variant"]) == ("psnr", "se")]
    psnr = {name: stages["measure"]["psnr"]["value"] for name, stages in results.items()}
    assert of_se["value"] == psnr["se"]
    assert of_se["difference"] == pytest.approx(psnr["se"] - psnr["control"], abs=1e-9)
    assert [float(row["value"]) for row in rows] == [record["value"] for record in records]
    assert "| stage | metric | control | se |" in dfz("show", run, "--format", "markdown")
    assert r"\toprule" in dfz("show", run, "--format", "latex")
    with pytest.raises(SpecError, match="did you mean 'latex'"):
        dfz("show", run, "--format", "latx")


def test_a_table_alone_needs_none_in_the_spec(run):
    """All metrics, in each format of ``--table-only``; nothing is written."""
    before = sorted(run.iterdir())
    assert "| PSNR ↑ |" in dfz("report", run, "--table-only")
    assert r"\begin{tabular}" in dfz("report", run, "--table-only", "--format", "latex")
    assert sorted(run.iterdir()) == before


def test_runs_are_listed(run):
    text = "".join(dfz("runs", "--runs", run.parent).split())
    for word in ("study", "control,se", "11of11"):
        assert word in text
    with pytest.raises(SpecError, match="there is no folder 'nowhere'"):
        dfz("runs", "--runs", "nowhere")


def test_a_finished_run_ends_with_its_results(run, capsys):
    """``dfz run`` of what is done: the table, then the report's path, last."""
    run_spec(run / "spec.yaml", [], None, [], 1, run.parent)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"report: {run / 'report.html'}"
    assert any("PSNR" in line for line in lines)
