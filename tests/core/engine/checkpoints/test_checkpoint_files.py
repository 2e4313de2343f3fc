"""Damage of checkpoints on disk that leaves every file's size as it is."""

import json
import zlib

import pytest
import torch
from safetensors.torch import save_file

from diffusability.core.checksums import crc32_of
from diffusability.core.engine.checkpoints import checkpoints as module
from diffusability.core.engine.checkpoints.checkpoints import MANIFEST, Checkpoints
from diffusability.core.engine.distributed import Ranks

ALONE = Ranks(rank=0, size=1, device=torch.device("cpu"))


class Engine:
    """Stands for DeepSpeed's, which is not needed to write files."""

    def zero_optimization_stage(self):
        return 0


class Average:
    """A part with a file in a folder of its own."""

    def write(self, folder):
        save_file({"weight": torch.arange(4.0)}, folder / "average.safetensors")

    def read(self, folder):
        raise NotImplementedError


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """The checkpoints of steps 2 and 4, of one rank's weights, a state and a part."""

    def save_engine(engine, directory, ranks):
        save_file({"weight": torch.arange(8.0)}, directory / f"rank-{ranks.rank:05d}.safetensors")

    monkeypatch.setattr(module, "save_engine", save_engine)
    checkpoints = Checkpoints(tmp_path, ALONE, keep=2)
    for step in (2, 4):
        checkpoints.save(Engine(), step, {"means": {}}, {"average": Average()})
    return checkpoints


FILES = ("rank-00000.safetensors", "state-00000.pt", "average/average.safetensors")


def test_the_manifest_holds_the_checksum_of_every_file(saved):
    """Against zlib on the whole files."""
    folder = saved.path(4)
    checksums = json.loads((folder / MANIFEST).read_text())["crc32"]
    assert checksums == {name: zlib.crc32((folder / name).read_bytes()) for name in FILES}
    assert saved.newest() == (4, [])


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_noticed_and_the_checkpoint_before_is_used(saved, name):
    """A bit in the middle of each file: the sentence names it, and the folder is set aside."""
    file = saved.path(4) / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    newest, skipped = saved.newest()
    assert newest == 2
    (sentence,) = skipped
    assert sentence.startswith(f"checkpoint step-00000004 is not whole and was skipped: {name} has changed since")
    assert f"{crc32_of(saved.directory / 'damaged-step-00000004' / name):08x} instead of" in sentence
    assert saved.steps() == [2]


def test_a_checkpoint_without_checksums_is_read_as_before(saved):
    """One of an earlier version."""
    path = saved.path(4) / MANIFEST
    manifest = json.loads(path.read_text())
    del manifest["crc32"]
    path.write_text(json.dumps(manifest))
    assert saved.newest() == (4, [])


def test_checksums_are_those_of_whole_files(tmp_path, monkeypatch):
    """Files of no byte, of one block and of several, read in blocks of 8 bytes."""
    monkeypatch.setattr("diffusability.core.checksums._BLOCK_BYTES", 8)
    for size in (0, 7, 8, 21):
        (tmp_path / "file").write_bytes(bytes(range(size)))
        assert crc32_of(tmp_path / "file") == zlib.crc32(bytes(range(size)))
