"""The encode stage inside a run: resuming, and caches of something else."""

import json

import pytest
from tiny_runs import run_here, tiny_spec, write_spec

from diffusability.core.checksums import load_verified, save_with_checksums
from diffusability.core.data.latents.latent_cache import read_index
from diffusability.core.errors import DataError

pytestmark = pytest.mark.integration


def encode_spec(tmp_path):
    """One autoencoder, saved in a folder, and the stage that encodes with it."""
    content = tiny_spec()
    stages = content["stages"]
    stages["pretrain"] |= {"steps": 1, "preview": None, "regularizers": []}
    run_here(write_spec(tmp_path, {**content, "stages": {"pretrain": stages["pretrain"]}}), tmp_path / "first")
    (model,) = (tmp_path / "first").glob("*/stages/*/model")
    encode = {
        "kind": "encode",
        "autoencoder": {"kind": "saved", "path": str(model)},
        "num_samples": 24,
        "shard_size": 10,
    }
    dit = {**stages["dit"], "steps": 1, "evaluate": None, "preview": None}
    return {**content, "stages": {"encode": encode, "dit": dit}}, model


def change_a_weight(path):
    """Other weights, written as a training writes them: with checksums of their own."""
    tensors = load_verified(path)
    name = sorted(tensors)[0]
    save_with_checksums({**tensors, name: tensors[name] + 1e-3}, path)


def test_an_interrupted_encoding_keeps_its_shards_and_refuses_other_weights(tmp_path):
    """A shard is kept as it is (its time of writing), one of another cut is redone; changed weights are refused, both
    while encoding goes on and when samples are to be decoded; a denoiser refuses another normaliser."""
    content, model = encode_spec(tmp_path)
    path = write_spec(tmp_path, content)
    plan, folder = run_here(path, tmp_path / "runs")
    stage = plan.stages["default"]["encode"]
    cache = folder.stage(stage) / "latents"
    index = read_index(cache)
    assert index.shard_sizes == (10, 10, 4)
    assert {"autoencoder", "data", "normalizer", "stage"} <= set(index.provenance)
    assert "saved" in index.provenance["autoencoder"]["words"]

    def interrupted():
        (folder.stage(stage) / "done.json").unlink()
        (cache / "shard-00001.safetensors").unlink()
        return {shard.name: shard.stat().st_mtime_ns for shard in cache.glob("shard-*")}

    before = interrupted()
    run_here(path, tmp_path / "runs", until="encode")
    after = {shard.name: shard.stat().st_mtime_ns for shard in cache.glob("shard-*")}
    assert len(after) == 3
    assert {name: after[name] for name in before} == before

    interrupted()
    run_here(path, tmp_path / "runs", "stages.encode.shard_size=12", until="encode")
    assert read_index(cache).shard_sizes == (12, 12)
    assert sorted(shard.name for shard in cache.glob("shard-*")) == [
        "shard-00000.safetensors",
        "shard-00001.safetensors",
    ]

    weights = model / "model.safetensors"
    change_a_weight(weights)
    run_here(path, tmp_path / "runs", "stages.encode.shard_size=12", until="encode")
    assert (folder.root / "outdated" / f"{stage.directory_name}-1" / "latents" / "cache.json").is_file()
    assert read_index(cache).provenance["autoencoder"]["digest"] != index.provenance["autoencoder"]["digest"]
    change_a_weight(weights)
    interrupted()
    with pytest.raises(DataError, match=r"latent shard .* was made with autoencoder 'saved' .* to encode again"):
        run_here(path, tmp_path / "runs", "stages.encode.shard_size=12", until="encode")


def test_a_cache_of_another_run_trains_a_denoiser(tmp_path):
    """By its folder and its autoencoder; a denoiser that was trained with another normaliser does not go on with it
    unless told to."""
    content, model = encode_spec(tmp_path)
    _, folder = run_here(write_spec(tmp_path, content), tmp_path / "runs")
    (cache,) = folder.root.glob("stages/encode-*/latents")
    (denoiser,) = folder.root.glob("stages/dit-*/model")
    data = {"kind": "latents", "path": str(cache), "autoencoder": {"kind": "saved", "path": str(model)}}
    dit = {**content["stages"]["dit"], "data": data, "preview": {"every": 1, "num_images": 1}}
    dit["preview"]["sampler"] = {"kind": "euler", "steps": 2}
    second = {"name": "second", "engine": content["engine"], "stages": {"dit": dit}}
    path = write_spec(tmp_path, second)
    plan, second_folder = run_here(path, tmp_path / "runs")
    assert (second_folder.stage(plan.order[0]) / "samples" / "step-000001.png").is_file()

    dit["objective"] = {"kind": "flow-matching", "denoiser": {"kind": "saved", "path": str(denoiser)}}
    content_of = json.loads((cache / "cache.json").read_text())
    content_of["std"][0] *= 1.5
    (cache / "cache.json").write_text(json.dumps(content_of))
    path = write_spec(tmp_path, {**second, "name": "third"})
    with pytest.raises(DataError, match=r"was trained on latents with normaliser .* set data.new_normalizer: true"):
        run_here(path, tmp_path / "runs")
    plan, third = run_here(path, tmp_path / "runs", "stages.dit.data.new_normalizer=true")
    assert third.is_done(plan.order[0])
