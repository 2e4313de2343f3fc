"""Names that are no text in a whole run: what is printed, logged, recorded and reported of them."""

import json
import os

import pytest
from PIL import Image
from tiny_runs import dfz, tiny_spec, write_spec

pytestmark = pytest.mark.integration


def test_a_run_over_files_whose_names_are_not_utf_8(tmp_path):
    """Training, encoding and evaluation of images and class folders named in Latin-1, of which one is damaged, in a
    locale that knows ASCII alone; then a changed file is named."""
    images = tmp_path / "images"
    for number in range(8):
        path = images / os.fsdecode(b"stra\xdfe" if number % 2 else b"caf\xe9") / os.fsdecode(b"\xe4 %d.png" % number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 36), (20 * number, 90, 30)).save(path)
    damaged = images / os.fsdecode(b"caf\xe9") / os.fsdecode(b"\xfc.png")
    damaged.write_bytes(path.read_bytes()[:30])
    stages = tiny_spec()["stages"]
    stages["pretrain"] |= {"steps": 3, "preview": None, "regularizers": []}
    stages["encode"] = {"kind": "encode", "autoencoder": {"kind": "stage", "stage": "pretrain"}, "num_samples": 6}
    stages["measure"]["evaluators"] = [{"kind": "psnr", "num_samples": 4}]
    data = {"kind": "image-folder", "path": str(images), "labels": "folder"}
    data |= {"resolution": 32, "validation_share": 0.3, "max_unreadable_share": 0.5}
    content = {
        **tiny_spec(),
        "data": data,
        "stages": {name: stages[name] for name in ("pretrain", "measure", "encode")},
    }
    spec = write_spec(tmp_path, content)
    environment = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    first = dfz("run", spec, "--runs", tmp_path / "runs", **environment)
    assert "Traceback" not in first.stdout + first.stderr
    (record,) = (tmp_path / "runs").rglob("pretrain-*/contents-files.json")
    names = json.loads(record.read_text())["data.path"]["files"]
    assert os.fsdecode(b"caf\xe9/\xfc.png") in names
    assert len(names) == 9
    Image.new("RGB", (40, 36), "red").save(damaged)
    second = dfz("check", spec, "--runs", tmp_path / "runs", **environment)
    told = second.stdout + second.stderr
    assert "has other content" in told
    assert "xfc.png" in told or "udcfc.png" in told
