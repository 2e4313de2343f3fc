import json

import attrs
import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.dataset import Dataset, Example, FilteredExample, UnreadableExample
from diffusability.core.contracts.normalizer import ChannelStatistics, LatentNormalizer
from diffusability.core.contracts.posterior import Posterior
from diffusability.core.data.latents.latent_cache import (
    CacheIndex,
    ShardOrigin,
    holds,
    open_shard,
    read_index,
    shard_statistics,
    write_index,
    write_shard,
)
from diffusability.core.data.latents.latent_origin import (
    Origin,
    autoencoder_origin,
    data_origin,
    normalizer_origin,
    refuse_other,
    tensors_digest,
)
from diffusability.core.data.latents.latents import Latents
from diffusability.core.data.specs.latents import LatentsSpec
from diffusability.core.data.specs.sample_photos import SamplePhotosSpec
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.errors import DataError
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.stages.encoding import Encoder


def origin(autoencoder="a", data="d", indices="i"):
    return ShardOrigin(
        autoencoder=Origin(digest=autoencoder * 16, description="autoencoder 'x'"),
        data=Origin(digest=data * 16, description="data 'y'"),
        indices=indices,
    )


def tensors(rows=5, labels=True):
    generator = torch.Generator().manual_seed(0)
    names = ("mean", "logvar", "mean_flipped", "logvar_flipped")
    columns = {name: torch.randn(rows, 2, 3, 4, generator=generator).half() for name in names}
    return columns | ({"label": torch.arange(rows)} if labels else {})


@pytest.fixture
def cache(tmp_path):
    """Two shards of five and three rows."""
    for shard, rows in enumerate((5, 3)):
        write_shard(tmp_path, shard, tensors(rows), ChannelStatistics(2), origin())
    index = CacheIndex(
        shard_sizes=(5, 3),
        shape=(2, 3, 4),
        deterministic=False,
        flips=True,
        num_classes=5,
        mean=(0.0, 1.0),
        std=(1.0, 2.0),
        provenance={"autoencoder": Origin(digest="a" * 16, description="autoencoder 'x'").as_json(), "split": "train"},
    )
    write_index(tmp_path, index)
    return tmp_path


def test_rows_are_those_that_safetensors_reads(cache):
    """Every row of every column against the safetensors library."""
    reader = open_shard(cache, 0)
    with safe_open(cache / "shard-00000.safetensors", framework="pt") as theirs:
        for name in theirs.keys():  # noqa: SIM118
            whole = theirs.get_tensor(name)
            for row in (4, 0, 2):
                assert torch.equal(reader.row(name, row), whole[row])
    assert (reader.num_rows, reader.shape("mean")) == (5, (2, 3, 4))


def test_examples_are_drawn_from_the_posterior_of_their_row(cache):
    """Without a generator the mean; with one, mean + std * noise of the image or its mirror, over both shards."""
    dataset = Latents(cache)
    assert len(dataset) == 8
    expected = tensors(3)
    assert torch.equal(dataset[6].data, expected["mean"][1].float())
    assert [dataset[index].label for index in (4, 5, 7)] == [4, 0, 2]
    means = set()
    for seed in range(12):
        noise = torch.Generator().manual_seed(seed)
        drawn = dataset.load(6, torch.Generator().manual_seed(seed)).data
        flipped = float(torch.rand((), generator=noise)) < 0.5
        suffix = "_flipped" if flipped else ""
        spread = torch.exp(0.5 * expected["logvar" + suffix][1].float()) * torch.randn(2, 3, 4, generator=noise)
        torch.testing.assert_close(drawn, expected["mean" + suffix][1].float() + spread)
        means.add(flipped)
    assert means == {True, False}


@pytest.mark.parametrize("damage", ["cut", "text", "gone"])
def test_a_damaged_shard_is_named(cache, damage):
    """Cut short, no safetensors, missing: the file and what is wrong; an encode stage makes it again."""
    path = cache / "shard-00001.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "text":
        path.write_text("no tensors")
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"shard-00001\.safetensors"):
        Latents(cache)[6]
    assert not holds(cache, 1, origin())


def flip_a_bit(path, needle):
    """Changes one bit of a file at the first place of some bytes; its size stays."""
    content = bytearray(path.read_bytes())
    content[content.index(needle)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("column", ["mean", "logvar_flipped", "label", "mean_crc32"])
def test_a_row_that_changed_at_equal_size_is_named(cache, column):
    """One bit of one row: that row is an error that names the file, others are read, an encode stage makes it again."""
    path = cache / "shard-00001.safetensors"
    with safe_open(path, framework="pt") as file:
        row = file.get_tensor(column)[1]
    size = path.stat().st_size
    flip_a_bit(path, row.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    assert path.stat().st_size == size
    reader = open_shard(cache, 1)
    name = column.removesuffix("_crc32")
    with pytest.raises(DataError, match=rf"shard-00001\.safetensors' is damaged: row 1 of '{name}' does not match"):
        reader.row(name, 1)
    assert torch.equal(reader.row(name, 0), tensors(3)[name][0])
    assert not holds(cache, 1, origin())


def test_statistics_that_changed_at_equal_size_are_named(cache):
    """A digit in the header: no mean and deviation are made of it."""
    path = cache / "shard-00001.safetensors"
    flip_a_bit(path, b"autoencoder 'x'")
    with pytest.raises(DataError, match=r"shard-00001\.safetensors' is damaged: its header does not match"):
        shard_statistics(open_shard(cache, 1))
    assert not holds(cache, 1, origin())


def test_a_shard_without_sums_is_read(cache):
    """As earlier versions wrote it."""
    facts = {"statistics": ChannelStatistics(2).state(), "origin": attrs.asdict(origin())}
    save_file(tensors(3), cache / "shard-00001.safetensors", metadata={"facts": json.dumps(facts)})
    assert torch.equal(Latents(cache)[6].data, tensors(3)["mean"][1].float())
    assert holds(cache, 1, origin())


def test_a_shard_is_kept_only_for_the_same_examples(cache):
    """The same, others (as after another shard_size), and none."""
    assert holds(cache, 0, origin())
    assert not holds(cache, 0, origin(indices="other"))
    assert not holds(cache, 2, origin())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"autoencoder": "b"},
            r"with autoencoder 'x' \(digest aaaaaaaaaaaa\), not with .* \(digest bbbbbbbbbbbb\)",
        ),
        ({"data": "e"}, r"made with data 'y' \(digest dddddddddddd\), not with data 'y' \(digest eeeeeeeeeeee\)"),
    ],
)
def test_a_shard_of_something_else_is_refused(cache, changed, message):
    """Another autoencoder or transform: both named, with their digests."""
    with pytest.raises(DataError, match=message):
        holds(cache, 0, origin(**changed))


def test_digests_tell_weights_and_transforms_apart():
    """One bit of one weight, a name, a shape, a resolution, a split: each another digest; copies the same."""
    weights = {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(0)}
    same = {"b": torch.zeros(0), "a": torch.arange(6.0).view(3, 2).T.contiguous().view(3, 2).T.contiguous()}
    same["a"] = weights["a"].clone()
    assert tensors_digest(weights) == tensors_digest(same)
    others = [
        {**weights, "a": weights["a"] + torch.tensor([[0, 0, 0], [0, 0, 1e-6]])},
        {"c": weights["a"], "b": weights["b"]},
        {**weights, "a": weights["a"].view(3, 2)},
        {**weights, "a": weights["a"].half()},
    ]
    digests = {tensors_digest(other) for other in [weights, *others]}
    assert len(digests) == 5
    first = data_origin(SamplePhotosSpec(resolution=32), "train")
    assert first.digest == data_origin(SamplePhotosSpec(resolution=32, num_workers=3), "train").digest
    assert first.digest != data_origin(SamplePhotosSpec(resolution=64), "train").digest
    assert first.digest != data_origin(SamplePhotosSpec(resolution=32), "validation").digest
    assert "resolution 32" in str(first)
    narrow, wide = (LatentNormalizer(torch.zeros(2), torch.full((2,), value)) for value in (1.0, 1.001))
    assert normalizer_origin(narrow).digest != normalizer_origin(wide).digest


def test_a_cache_from_elsewhere_is_compared_with_its_autoencoder(cache):
    """The autoencoder that the spec names against the digest in the cache: refused, both named."""
    kind = {"kind": "dct", "block_size": 4, "num_coefficients": 2}
    spec = LatentsSpec(path=cache, autoencoder=kind)
    spec.check_inputs()
    assert spec.latent_shape() == (2, 3, 4)
    with pytest.raises(DataError, match=r"made with autoencoder 'x' .*, not with autoencoder 'dct'"):
        spec.build(BuildContext(), "train")
    wanted = autoencoder_origin(spec.autoencoder.build(BuildContext()), "dct")
    content = json.loads((cache / "cache.json").read_text())
    content["provenance"] |= {
        "autoencoder": {"digest": wanted.digest, "words": wanted.description},
        "data": {"digest": "f" * 16, "words": "data 'photos'"},
    }
    (cache / "cache.json").write_text(json.dumps(content))
    assert len(spec.build(BuildContext(), "train")) == 8
    with pytest.raises(DataError, match=r"made with data 'photos' .* not with data 'sample-photos', resolution 32"):
        LatentsSpec(path=cache, autoencoder=kind, images={"kind": "sample-photos", "resolution": 32}).build(
            BuildContext(), "train"
        )


def test_random_weights_made_no_cache_from_elsewhere(cache):
    """Refused before anything starts; a cache of equal name and other content is said to be that."""
    with pytest.raises(ValueError, match="all weights are drawn at random here; expected the one that made them"):
        LatentsSpec(path=cache, autoencoder={"kind": "compact-kl"}).check_inputs()
    first, second = (Origin(digest=letter * 64, description="autoencoder 'x'") for letter in "ab")
    with pytest.raises(DataError, match="the name is the same, the content is not; encode again"):
        refuse_other("the cache", first.as_json(), second, "encode again")


def test_one_source_of_latents_is_named(tmp_path):
    """Neither, both, a folder without an autoencoder, a folder without a cache."""
    for fields, message in (
        ({}, "exactly one of 'stage' and 'path'"),
        ({"stage": "encode", "path": tmp_path}, "exactly one of 'stage' and 'path'"),
        ({"path": tmp_path}, "name the 'autoencoder' that made these latents"),
    ):
        with pytest.raises(ValidationError, match=message):
            LatentsSpec(**fields)
    with pytest.raises(ValueError, match=r"cache\.json is missing"):
        LatentsSpec(path=tmp_path, autoencoder={"kind": "compact-kl"}).check_inputs()


class Halving(Autoencoder):
    """Latents are images at half size; the log variance is constant."""

    info = AutoencoderInfo(latent_channels=3, spatial_factor=2)

    def encode(self, images):
        mean = torch.nn.functional.avg_pool2d(images, 2)
        return Posterior(mean=mean, logvar=torch.full_like(mean, -2.0))

    def decode(self, latents):
        return latents


class Numbers(Dataset):
    """Example ``i`` is filled with ``i``, darker to the right; 3 cannot be read and 5 is filtered."""

    num_classes = 4

    def __len__(self):
        return 10

    def load(self, index, generator):
        if index == 3:
            raise UnreadableExample("three")
        if index == 5:
            raise FilteredExample("five")
        return Example(data=torch.linspace(index, 0, 4).expand(3, 4, 4).clone(), label=index % 4)


def encoder(**changes):
    said, done, unreadable = [], [], []
    settings = {
        "autoencoder": Halving(),
        "device": torch.device("cpu"),
        "dataset": Numbers(),
        "batch_size": 2,
        "num_workers": 0,
        "flips": True,
        "stop": StopRequest(),
        "on_unreadable": unreadable.extend,
        "on_batch": done.append,
        "on_estimate": said.append,
        "num_samples": 10,
        "num_ranks": 2,
    }
    return Encoder(**{**settings, **changes}), said, done, unreadable


def test_shards_hold_what_the_autoencoder_says_of_each_image():
    """Columns of two shards against encoding one by one; what cannot be read or is filtered is missing."""
    made, said, done, unreadable = encoder()
    shards = dict(made.shards({0: [0, 1, 2, 3, 4], 2: [5, 6, 7]}))
    assert list(shards) == [0, 2]
    assert unreadable == ["three"]
    assert done == [2, 4, 5, 7, 8]
    for shard, rows in ((0, [0, 1, 2, 4]), (2, [6, 7])):
        columns = shards[shard].tensors()
        images = torch.stack([Numbers()[row].data for row in rows])
        for suffix, view in (("", images), ("_flipped", images.flip(-1))):
            posterior = Halving().encode(view)
            assert torch.equal(columns["mean" + suffix], posterior.mean.half())
            assert torch.equal(columns["logvar" + suffix], posterior.logvar.half())
        assert columns["label"].tolist() == [row % 4 for row in rows]
        statistics = ChannelStatistics(3)
        for view in (images, images.flip(-1)):
            statistics.update(Halving().encode(view))
        torch.testing.assert_close(shards[shard].statistics.normalizer().std, statistics.normalizer().std)
    (estimate,) = said
    # 3 * 2 * 2 numbers of 2 bytes, four columns, and a label of 8 bytes
    assert "10 samples of 3x2x2 (mean and log variance, both flips, half precision)" in estimate
    assert f"make {10 * (4 * 12 * 2 + 8) / 2**30:.3g} GiB" in estimate
    assert "samples/s a rank" in estimate


def test_a_stop_gives_up_the_shard_under_way():
    """A signal during the second shard: the first one is there, the second is not."""
    stop = StopRequest()
    made, _, done, _ = encoder(stop=stop)
    shards = made.shards({0: [0, 1], 1: [2, 4, 6]})
    assert next(shards)[0] == 0
    stop.signal_name = "SIGTERM"
    assert list(shards) == []
    assert done == [2]


def test_a_shard_of_nothing_and_latents_out_of_range_are_errors():
    """All images unreadable; an image of 10^6, which half precision cannot hold."""
    with pytest.raises(DataError, match="none of the 1 images of shard 4 could be read"):
        list(encoder()[0].shards({4: [3]}))

    class Bright(Numbers):
        def load(self, index, generator):
            return Example(data=torch.full((3, 4, 4), 1e6), label=0)

    with pytest.raises(DataError, match="not finite in half precision"):
        list(encoder(dataset=Bright())[0].shards({0: [0]}))


def test_statistics_of_each_frame_go_through_the_index(cache):
    """A normaliser of each channel at each latent frame, as Cosmos publishes it: written, read, and missing."""
    mean, std = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    normalizer = LatentNormalizer(mean, std)
    coarse = normalizer.per_channel()
    numbers = {"mean": tuple(coarse.mean.tolist()), "std": tuple(coarse.std.tolist())}
    write_index(cache, attrs.evolve(read_index(cache), finer=True, **numbers), normalizer)
    index = read_index(cache)
    assert index.mean == (1.0, 4.0)
    again = index.normalizer(cache)
    assert torch.equal(again.mean, mean)
    assert torch.equal(again.std, std)
    assert Latents(cache).normalizer.std.shape == (2, 3)
    (cache / "normalizer.safetensors").unlink()
    with pytest.raises(DataError, match="normaliser of latents"):
        Latents(cache)
