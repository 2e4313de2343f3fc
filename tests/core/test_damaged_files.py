"""Whatever is wrong with a file that a person hands in, its reader raises one of our errors, or reads it."""

import copy
import io
import json
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from diffusability.core.contracts.dataset import UnreadableExample
from diffusability.core.data.idx_images import read_idx
from diffusability.core.data.latents.latents import Latents
from diffusability.core.data.shards.streamed_shards import _read_sizes
from diffusability.core.data.shards.tar_index import _read_kept, build_index, tar_index
from diffusability.core.data.specs.huggingface import HuggingFaceSpec
from diffusability.core.data.specs.latents import LatentsSpec
from diffusability.core.data.specs.webdataset import WebDatasetSpec
from diffusability.core.errors import DiffusabilityError
from diffusability.core.models.saved_models import load_autoencoder, save_autoencoder
from diffusability.core.planning.plan import load_plan
from diffusability.core.report import build_report
from diffusability.core.run.folder_reader import read_run
from diffusability.core.run.selection import trained_models
from diffusability.core.sampling.sampled_latents import SampledLatents
from diffusability.core.scoring.named_autoencoders import named_autoencoders
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.specs.model_references import SavedAutoencoderSpec
from diffusability.eval.generation.reference_statistics import read_reference
from diffusability.models.specs.autoencoders.diffusers_layout import info_of, read_config
from diffusability.models.weight_files import read_header, read_weight_file

SPEC = """name: x
seed: 0
data: {kind: sample-photos, resolution: 32}
stages:
  one: &o
    kind: train
    steps: 5
    batch_size: 4
    objective: {kind: reconstruction, autoencoder: {kind: compact-kl}}
variants:
  a: {stages.one.steps: 6}
"""
INDEX = {
    "format": "diffusability-latents",
    "shard_sizes": [2],
    "shape": [2, 3, 3],
    "deterministic": False,
    "flips": False,
    "num_classes": 3,
    "mean": [0.0, 0.5],
    "std": [1.0, 2.0],
    "provenance": {},
}
RUN = {
    "name": "r",
    "variants": {"base": {"ae": {"kind": "train", "status": "done", "directory": "stages/ae", "seconds": 1.0}}},
    "variant_seeds": {"base": {"base": "base", "seed": 0}},
    "versions": {"torch": "1"},
}


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (9, 8), "red").save(buffer, "png")
    return buffer.getvalue()


def spec_file(folder):
    (folder / "x.yaml").write_text(SPEC)
    return folder / "x.yaml", lambda: load_plan(folder / "x.yaml", [])


def latent_files(folder):
    (folder / "cache.json").write_text(json.dumps(INDEX))
    tensors = {name: torch.zeros(2, 2, 3, 3, dtype=torch.float16) for name in ("mean", "logvar")}
    save_file({**tensors, "label": torch.zeros(2, dtype=torch.int64)}, folder / "shard-00000.safetensors")


def latent_index(folder):
    latent_files(folder)
    spec = LatentsSpec.model_construct(path=folder)

    def read():
        spec.latent_shape()
        spec.unlabelled()
        Latents(folder).load(1, None)

    return folder / "cache.json", read


def latent_shard(folder):
    latent_files(folder)
    return folder / "shard-00000.safetensors", lambda: Latents(folder).load(1, torch.Generator())


def tar(folder):
    with tarfile.open(folder / "a.tar", "w") as file:
        for name, content in (("0.png", png()), ("0.cls", b"1"), ("1.png", png()), ("1.cls", b"0")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return folder / "a.tar"


def shard(folder):
    path = tar(folder)
    spec = WebDatasetSpec(shards=str(path), validation_share=1, label="cls", resolution=8)

    def read():
        dataset = spec.build(BuildContext(), "validation")
        for index in range(len(dataset)):
            dataset.load(index, None)

    return path, read


def kept_index(folder):
    """A damaged index in the cache folder is built again, so that reading it gives the same or None."""
    index = tar_index(tar(folder), ("png",), "cls")
    (path,) = (folder / "cache").rglob("*.npz")

    def read():
        kept = _read_kept(path)
        assert kept is None or len(kept.offset) == len(index.offset)

    return path, read


def idx(folder):
    (folder / "a").write_bytes(b"\0\0\x08\2" + b"\0\0\0\2" * 2 + b"1234")
    return folder / "a", lambda: read_idx(folder / "a")


def saved_model(folder):
    autoencoder = AutoencoderSpec.model_validate({"kind": "dct"}).build(BuildContext())
    autoencoder.spec = AutoencoderSpec.model_validate({"kind": "dct"})
    save_autoencoder(autoencoder, folder)


def saved_config(folder):
    saved_model(folder)
    spec = SavedAutoencoderSpec(path=folder)

    def read():
        spec.check_inputs()
        load_autoencoder(folder)

    return folder / "config.json", read


def named_config(folder):
    saved_model(folder)
    return folder / "config.json", lambda: named_autoencoders([str(folder)])


def saved_weights(folder):
    saved_model(folder)
    return folder / "model.safetensors", lambda: load_autoencoder(folder)


def diffusers_config(folder):
    content = {"_class_name": "AutoencoderKL", "block_out_channels": [8, 8], "latent_channels": 4, "in_channels": 3}
    (folder / "config.json").write_text(json.dumps(content))
    return folder / "config.json", lambda: info_of(read_config(folder))


def weights(folder):
    save_file({"a.weight": torch.zeros(3)}, folder / "a.safetensors")

    def read():
        read_header(folder / "a.safetensors")
        read_weight_file(folder / "a.safetensors")

    return folder / "a.safetensors", read


def torch_weights(folder):
    torch.save({"a.weight": torch.zeros(3)}, folder / "a.pt")
    return folder / "a.pt", lambda: read_weight_file(folder / "a.pt")


def run_record(folder):
    (folder / "run.json").write_text(json.dumps(RUN))
    saved_model(folder / "stages/ae/model")

    def read():
        read_run(folder)
        named_autoencoders([str(folder)])
        trained_models(folder)

    return folder / "run.json", read


def results(folder):
    run_record(folder)
    content = {"variants": {"base": {"ae": {"psnr": {"value": 20.0, "higher_is_better": True, "num_samples": 8}}}}}
    (folder / "results.json").write_text(json.dumps(content))
    return folder / "results.json", lambda: read_run(folder)


def statistics(folder):
    provenance = json.dumps({"num_samples": 3, "image_size": [8, 8], "features": {}})
    np.savez(folder / "a.npz", mu=np.zeros(2), sigma=np.eye(2), provenance=np.array(provenance))
    return folder / "a.npz", lambda: read_reference(folder / "a.npz")


def counts(folder):
    (folder / "a.json").write_text("[1, 2]")
    return folder / "a.json", lambda: _read_sizes(folder / "a.json", 2)


def samples(folder):
    SampledLatents(folder / "s").keep([0, 1], torch.zeros(2, 1, 2, 2))
    (path,) = (folder / "s").iterdir()
    return path, lambda: SampledLatents(folder / "s").read([0])


def image_table():
    features = datasets.Features({"image": datasets.Image(), "kind": datasets.Value("int64")})
    rows = [{"bytes": png(), "path": None}] * 3
    return datasets.Dataset.from_dict({"image": rows, "kind": [0, 1, 1]}, features=features)


def reader_of_table(folder):
    datasets.disable_progress_bars()
    spec = HuggingFaceSpec(path=str(folder / "set"), validation_share=1, label="kind", resolution=8)

    def read():
        dataset = spec.build(BuildContext(), "validation")
        for index in range(len(dataset)):
            dataset.load(index, None)

    return read


def parquet(folder):
    (folder / "set").mkdir()
    image_table().to_parquet(str(folder / "set/train-0.parquet"))
    return folder / "set/train-0.parquet", reader_of_table(folder)


def arrow(folder):
    image_table().save_to_disk(str(folder / "set"))
    (path,) = (folder / "set").glob("*.arrow")
    return path, reader_of_table(folder)


def arrow_state(folder):
    return arrow(folder)[0].with_name("state.json"), reader_of_table(folder)


def arrow_info(folder):
    return arrow(folder)[0].with_name("dataset_info.json"), reader_of_table(folder)


READERS = [spec_file, latent_index, latent_shard, shard, kept_index, idx, saved_config, named_config, saved_weights]
READERS += [diffusers_config, weights, torch_weights, run_record, results, statistics, counts, samples]
READERS += [parquet, arrow, arrow_state, arrow_info]
VALUES = st.sampled_from([None, True, -1, 0, 7, 1e308, "", "word", "\0", [], [[]], {}, {"a": 1}, [None], "x" * 300])


def replaced(content, path, value):
    """The JSON with the value at a place, given by numbers, replaced; a missing one is taken out."""
    if not path or not isinstance(content, dict | list) or not content:
        return value
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = keys[path[0] % len(keys)]
    result = copy.copy(content)
    if len(path) == 1 and value == "":
        del result[key]
    else:
        result[key] = replaced(content[key], path[1:], value)
    return result


@st.composite
def damages(draw):
    """A function from the content of a file to a damaged one."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "json", "json", "other"]))
    place, byte, value = draw(st.floats(0, 1)), draw(st.integers(1, 255)), draw(VALUES)
    path = draw(st.lists(st.integers(0, 8), max_size=4))
    other = draw(st.sampled_from([b"", b"\xff\xfe\xff", b"\x1f\x8b\x08\0", b"null", b"[" * 9000, b"{}", b"\0" * 700]))

    def damage(content):
        at = int(place * max(0, len(content) - 1))
        match kind:
            case "cut":
                return content[:at]
            case "flip":
                return content[:at] + bytes(b ^ byte for b in content[at : at + 1]) + content[at + 1 :]
            case "insert":
                return content[:at] + bytes([byte]) * 3 + content[at:]
            case "json" if content[:1] in (b"{", b"["):
                try:
                    return json.dumps(replaced(json.loads(content), path, value)).encode()
                except ValueError:
                    return other
        return other

    return damage


@pytest.mark.parametrize("make", READERS, ids=lambda make: make.__name__)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(damage=damages())
def test_a_damaged_file_is_read_or_refused(make, damage, tmp_path_factory, monkeypatch):
    """Cut, flipped, inserted and swapped content of every file that is read, against our errors alone."""
    folder = tmp_path_factory.mktemp("damaged")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "hf")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    path, read = make(folder)
    read()
    path.write_bytes(damage(path.read_bytes()))
    error = raised_by(read)
    assert error is None or str(error)
    if not isinstance(error, DiffusabilityError | UnreadableExample | None):
        assert type(error) is ValueError, repr(error)  # what `check_inputs` raises by contract, not a library's
        assert str(folder) in str(error)


def raised_by(read):
    """What reading raises, or None."""
    try:
        read()
    except Exception as error:  # noqa: BLE001 - which ones it may be is what is tested
        return error
    return None


@pytest.mark.parametrize("make", [make for make in READERS if make not in (spec_file, run_record, results)])
def test_a_pointer_of_git_lfs_is_called_one(make, tmp_path, monkeypatch):
    """In place of weights, latents, shards, tables and statistics; caches of ours are built again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    path, read = make(tmp_path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    if make in (kept_index, counts, samples):
        read()
        return
    with pytest.raises((DiffusabilityError, UnreadableExample, ValueError), match="Git LFS pointer"):
        read()


def test_members_of_a_tar_without_a_dot_free_key_are_explained(tmp_path):
    """``v1.0.png`` has the key v1 and the extension 0.png, as webdataset splits names."""
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        member = tarfile.TarInfo("v1.0.png")
        member.size = len(png())
        file.addfile(member, io.BytesIO(png()))
    spec = WebDatasetSpec(shards=str(tmp_path / "a.tar"), resolution=8)
    with pytest.raises(DiffusabilityError, match=r"'v1.0.png' has the key 'v1' and the extension '0.png'"):
        spec.build(BuildContext(), "validation")
    other = WebDatasetSpec(shards=str(tmp_path / "a.tar"), validation_share=1, images=["0.png"], resolution=8)
    assert len(other.build(BuildContext(), "validation")) == 1


@pytest.mark.parametrize(
    ("magic", "name"), [(b"\x1f\x8b\x08", "gzip"), (b"BZh9", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"PK\3\4", "zip")]
)
def test_a_compressed_tar_is_called_compressed(tmp_path, magic, name):
    """Before anything starts, and where the index is built."""
    (tmp_path / "a.tar.gz").write_bytes(magic + bytes(99))
    with pytest.raises(ValueError, match=f"compressed with {name}"):
        WebDatasetSpec(shards=str(tmp_path / "a.tar.gz"), resolution=8).check_inputs()
    with pytest.raises(DiffusabilityError, match=f"compressed with {name}"):
        build_index(tmp_path / "a.tar.gz", ("png",), None)


@pytest.mark.parametrize("label", ["CLS", ".cls", "*.cls", "cls"])
def test_extensions_are_given_in_any_form_and_patterns_expand(tmp_path, monkeypatch, label):
    """Forms of ``label``, a glob, and the home folder, against the shard named plainly."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tar(tmp_path)
    spec = WebDatasetSpec(shards="~/*.tar", validation_share=1, label=label, images=[".PNG"], resolution=8)
    spec.check_inputs()
    dataset = spec.build(BuildContext(), "validation")
    assert [dataset.load(index, None).label for index in range(2)] == [1, 0]
    with pytest.raises(ValueError, match="no shard matches"):
        WebDatasetSpec(shards="~/b*.tar", resolution=8).check_inputs()


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_links_in_a_tar_lead_to_what_they_name(tmp_path, monkeypatch, kind):
    """As tar writes the second name of a file; against Python's own reading of the members."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name, content in (("a/0.png", png()), ("a/0.cls", b"1"), ("a/1.png", "0.png"), ("a/1.cls", "0.cls")):
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = kind, content if kind == tarfile.SYMTYPE else f"a/{content}"
                file.addfile(member)
        member.name, member.linkname = "a/2.png", "nothing.png"
        file.addfile(member)
    spec = WebDatasetSpec(shards=str(tmp_path / "a.tar"), validation_share=1, label="cls", resolution=8)
    dataset = spec.build(BuildContext(), "validation")
    assert [dataset.load(number, None).label for number in range(2)] == [1, 1]
    index = build_index(tmp_path / "a.tar", ("png",), "cls")
    with tarfile.open(tmp_path / "a.tar") as file, (tmp_path / "a.tar").open("rb") as raw:
        for number in range(2):
            raw.seek(index.offset[number])
            assert raw.read(index.size[number]) == file.extractfile(f"a/{number}.png").read()
    assert len(dataset) == 2


def test_names_that_are_not_utf_8_are_read(tmp_path, monkeypatch):
    """A member of a tar and its key, as other tools write them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as file:
        member = tarfile.TarInfo("caf\udce9.png")
        member.size = len(png())
        file.addfile(member, io.BytesIO(png()))
    spec = WebDatasetSpec(shards=str(tmp_path / "a.tar"), validation_share=1, resolution=8)
    assert len(spec.build(BuildContext(), "validation")) == 1


def test_reports_of_damaged_runs_are_written(tmp_path):
    """A run whose metrics and configuration are damaged still has a report."""
    run_record(tmp_path)
    for name in ("results.json", "metrics.jsonl", "resolved.yaml"):
        (tmp_path / "stages/ae" / name).write_bytes(b"\xff\x00{[")
    build_report([tmp_path])
    assert Path(tmp_path / "report.html").is_file()
