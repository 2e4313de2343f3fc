import json
import os
import shutil
from io import StringIO
from pathlib import Path

import pytest
import yaml
from PIL import Image
from rich.console import Console

from diffusability.core.data.latents.latent_origin import data_origin, refuse_other
from diffusability.core.data.specs.image_folder import ImageFolderSpec
from diffusability.core.errors import DataError
from diffusability.core.planning.plan import load_plan
from diffusability.core.run import file_samples
from diffusability.core.run.changed_files import changes, record_contents, set_aside_changed
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.specs.base import files_at
from diffusability.core.specs.files import contents as contents_module
from diffusability.core.specs.files.contents import FileSet, contents


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def image(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, value, value)).save(path, "bmp")  # any two of the same size
    return path


@pytest.fixture
def run(tmp_path):
    """A plan of three stages over a folder of two classes, all done, with their records."""
    for name in "ab":
        for number in range(3):
            image(tmp_path / "images" / name / f"{number}.bmp", 10 * number + ord(name))
    autoencoder = {"kind": "compact-kl", "spatial_factor": 4, "latent_channels": 2, "width": 16, "blocks": 1}
    spec = {
        "name": "changing",
        "data": {"kind": "image-folder", "path": str(tmp_path / "images"), "labels": "folder", "resolution": 8},
        "stages": {
            "pretrain": {
                "kind": "train",
                "steps": 1,
                "objective": {"kind": "reconstruction", "autoencoder": autoencoder},
            },
            "photos": {
                "kind": "train",
                "steps": 1,
                "data": {"kind": "sample-photos"},
                "objective": {"kind": "reconstruction", "autoencoder": autoencoder},
            },
            "encode": {"kind": "encode", "autoencoder": {"kind": "stage", "stage": "photos"}},
            "quality": {
                "kind": "evaluate",
                "data": {"kind": "sample-photos"},
                "autoencoder": {"kind": "stage", "stage": "pretrain"},
                "evaluators": [{"kind": "psnr"}],
            },
        },
    }
    path = tmp_path / "changing.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    plan = load_plan(path)
    folder = RunFolder(tmp_path / "runs" / "changing")
    begin(plan, folder)
    return plan, folder


def begin(plan, folder):
    for stage in plan.order:
        if not folder.is_done(stage):
            folder.begin(stage)
            record_contents(stage, folder)
            folder.finish(stage, 1.0, 1, "fp32")


def changed(run):
    """The names of the stages that would be done again."""
    plan, folder = run
    reasons = changes(plan.order, folder)
    return [stage.name for stage in plan.order if stage.directory_name in reasons]


CHANGES = {
    "class folder renamed": lambda root: (root / "a").rename(root / "z"),
    "file renamed": lambda root: (root / "a/0.bmp").rename(root / "a/9.bmp"),
    "file added": lambda root: image(root / "b/7.bmp", 7),
    "file removed": lambda root: (root / "a/0.bmp").unlink(),
    "content of the same size": lambda root: image(root / "a/0.bmp", 3),
    "two files exchanged": lambda root: exchange(root / "a/0.bmp", root / "b/0.bmp"),
    "same size and time": lambda root: keeping_times(root / "a/0.bmp", lambda path: image(path, 4)),
    "empty class folder": lambda root: (root / "0").mkdir(),
}


def exchange(first, second):
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def keeping_times(path, change):
    status = path.stat()
    change(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", CHANGES)
def test_changed_images_make_a_stage_and_what_uses_it_anew(run, tmp_path, change):
    """Each way to change a set; stages over other data, and what uses only those, stay. A file is named."""
    assert changed(run) == []
    CHANGES[change](tmp_path / "images")
    assert changed(run) == ["pretrain", "encode", "quality"]
    plan, folder = run
    reason = next(text for text in changes(plan.order, folder).values() if "data.path" in text)
    assert NAMED[change] in reason.replace(str(tmp_path / "images"), "")


NAMED = {
    "class folder renamed": "'/z/0.bmp' is new",
    "file renamed": "'/a/9.bmp' is new",
    "file added": "'/b/7.bmp' is new",
    "file removed": "'/a/0.bmp' is gone",
    "content of the same size": "'/a/0.bmp' has other content",
    "two files exchanged": "'/a/0.bmp' has other content",
    "same size and time": "'/a/0.bmp' has other content",
    "empty class folder": "6 files",
}


@pytest.mark.parametrize("damage", ["missing", "cut", "of another shape"])
def test_without_digests_of_single_files_no_file_is_named(run, tmp_path, damage):
    """As in stages of earlier versions; the change is seen all the same."""
    for path in (tmp_path / "runs").rglob("contents-files.json"):
        path.unlink() if damage == "missing" else path.write_text('{"data' if damage == "cut" else '{"data.path": 3}')
    image(tmp_path / "images/a/0.bmp", 3)
    plan, folder = run
    reason = next(text for text in changes(plan.order, folder).values() if "data.path" in text)
    assert reason.endswith(")")


def test_of_many_files_a_sample_is_kept_that_names_a_changed_one(run, tmp_path, monkeypatch):
    """At most so many digests, and the same names before and after, though the sets differ in size."""
    monkeypatch.setattr(file_samples, "MOST_FILES", 16)
    root = tmp_path / "many"
    for number in range(60):
        image(root / f"{number}.bmp", number)
    names = sorted(path.name for path in root.iterdir())
    file_samples.write_samples(tmp_path, {"path": FileSet(root=root, names=names)})
    kept = json.loads((tmp_path / "contents-files.json").read_text())["path"]
    assert 1 <= len(kept["files"]) <= 16
    assert file_samples.changed_file(tmp_path, "path", FileSet(root=root, names=names)) is None
    for number in range(60):
        image(root / f"{number}.bmp", number + 100)
    assert "has other content" in file_samples.changed_file(tmp_path, "path", FileSet(root=root, names=names))
    for number in range(100, 300):
        image(root / f"{number}.bmp", number % 200)
    more = sorted(path.name for path in root.iterdir())
    file_samples.write_samples(tmp_path, {"path": FileSet(root=root, names=more)})
    assert "is gone" in file_samples.changed_file(tmp_path, "path", FileSet(root=root, names=more[:10]))


def recopied(root):
    shutil.copytree(root, root.parent / "copy")
    shutil.rmtree(root)
    (root.parent / "copy").rename(root)


UNCHANGED = {
    "touched": lambda root: os.utime(root / "a/0.bmp"),
    "copied": recopied,
    "a text file": lambda root: (root / "a/notes.txt").write_text("seen"),
    "gone from this machine": lambda root: root.rename(root.parent / "elsewhere"),
}


@pytest.mark.parametrize("change", UNCHANGED)
def test_times_and_other_files_do_not_count(run, tmp_path, change):
    """Also with nothing remembered from before, as on another machine."""
    UNCHANGED[change](tmp_path / "images")
    shutil.rmtree(tmp_path / "cache")
    assert changed(run) == []


def test_what_changed_is_said_set_aside_and_settles(run, tmp_path):
    """Both contents are named; folders are kept under another name; afterwards nothing has changed."""
    plan, folder = run
    folder.cache.mkdir()
    image(tmp_path / "images" / "b" / "7.bmp", 7)
    said = StringIO()
    set_aside_changed(plan.order, folder, Console(file=said, width=1000))
    lines = said.getvalue().splitlines()
    assert "data.path held 6 files of 1,476 bytes" in lines[0]
    assert "and holds 7 files of 1,722 bytes" in lines[0]
    assert "quality" in lines[2]
    assert "stage 'pretrain', which it uses, is made of other files than before" in lines[2]
    directory = folder.stage(plan.order[0])
    assert not directory.exists()
    assert (folder.root / "outdated" / f"{directory.name}-1").is_dir()
    assert not folder.cache.exists()
    begin(plan, folder)
    assert changed(run) == []


def test_a_stage_that_was_made_anew_alone_makes_its_users_anew(run, tmp_path):
    """As after ``--until``: the record of what used it names another one."""
    plan, folder = run
    image(tmp_path / "images" / "b" / "7.bmp", 7)
    first = plan.order[0]
    set_aside_changed([first], folder, Console(file=StringIO()))
    folder.begin(first)
    record_contents(first, folder)
    assert changed(run) == ["encode", "quality"]


def test_runs_of_earlier_versions_count_as_unchanged_and_get_records(run, tmp_path):
    """No record: nothing is done again; from then on changes count."""
    plan, folder = run
    for stage in plan.order:
        (folder.stage(stage) / "contents.json").unlink()
    assert changed(run) == []
    set_aside_changed(plan.order, folder, Console(file=StringIO()))
    image(tmp_path / "images" / "b" / "7.bmp", 7)
    assert changed(run) == ["pretrain", "encode", "quality"]


def test_weights_are_compared_by_every_byte(tmp_path):
    """A change in the middle of a folder's large file; a touched one has the same digest."""
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(bytes(3 << 20))
    before = contents(files_at(weights.parent))
    os.utime(weights, (1, 1))
    assert contents(files_at(weights.parent)) == before
    with weights.open("r+b") as file:
        file.seek((1 << 20) + 77)
        file.write(b"\1")
    assert contents(files_at(weights.parent)).digest != before.digest


def test_files_are_read_once_and_large_sets_by_pieces(tmp_path, monkeypatch):
    """Nothing is read again as long as nothing is touched; of a touched set, the touched file."""
    monkeypatch.setattr(contents_module, "_SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(contents_module, "WHOLE_BYTES", 1 << 19)
    names = [f"{number}.bin" for number in range(5)]
    for name in names:
        (tmp_path / name).write_bytes(os.urandom(1 << 18))
    read = []
    real = contents_module._read
    monkeypatch.setattr(
        contents_module, "_read", lambda file, whole: read.append((file.name, whole)) or real(file, whole)
    )
    first = contents(FileSet(root=tmp_path, names=names))
    assert sorted(read) == [(name, False) for name in names]
    assert contents(FileSet(root=tmp_path, names=names)) == first
    os.utime(tmp_path / "3.bin", (5, 5))
    assert contents(FileSet(root=tmp_path, names=names)) == first
    assert read[5:] == [("3.bin", False)]
    (tmp_path / "3.bin").write_bytes(os.urandom(1 << 18))
    assert contents(FileSet(root=tmp_path, names=names)).digest != first.digest


def test_latents_of_other_images_are_refused(tmp_path):
    """The same spec over a renamed class folder; a cache that does not say what files it had is taken as it is."""
    image(tmp_path / "images" / "a" / "0.bmp", 1)
    spec = ImageFolderSpec(path=tmp_path / "images", labels="folder", resolution=8)
    before = data_origin(spec, "train")
    (tmp_path / "images" / "a").rename(tmp_path / "images" / "b")
    after = data_origin(spec, "train")
    stated = before.as_json()
    with pytest.raises(DataError, match=f"files {before.contents[:12]}.* not with .*files {after.contents[:12]}"):
        refuse_other("latent shard 'x'", stated, after, "encode again")
    refuse_other("latent shard 'x'", stated, before, "encode again")
    refuse_other("latent shard 'x'", {"digest": before.digest, "words": before.description}, after, "encode again")


def test_lists_of_files_do_not_displace_each_other(tmp_path, monkeypatch):
    """Shards of training and of validation, both named from the working folder: each is read once."""
    monkeypatch.setattr(contents_module, "_SETTLED_SECONDS", 0.0)
    shards = [str(tmp_path / name) for name in ("train.tar", "validation.tar")]
    for name in shards:
        (tmp_path / name).write_bytes(os.urandom(100))
    first = [contents(FileSet(root=Path(), names=[name])) for name in shards]
    monkeypatch.delattr(contents_module, "_read")
    assert [contents(FileSet(root=Path(), names=[name])) for name in shards] == first


def test_an_interrupted_encoding_is_left_to_its_shards(run, tmp_path):
    """It is not set aside: shards that were made of other images are refused by name, with both digests."""
    plan, folder = run
    encode = next(stage for stage in plan.order if stage.name == "encode")
    (folder.stage(encode) / "done.json").unlink()
    (tmp_path / "images" / "a").rename(tmp_path / "images" / "z")
    assert "encode" not in changed(run)
