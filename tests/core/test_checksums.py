"""Files whose content changed at equal size: saved models, snapshots of averages, kept latents, cached features."""

import json
import zlib

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffusability.core.checksums import ChecksumError, crc32_of_tensor, load_verified, save_with_checksums
from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.errors import CheckpointError
from diffusability.core.models.saved_models import load_autoencoder, save_autoencoder
from diffusability.core.sampling.sampled_latents import SampledLatents
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.eval.features.feature_cache import FeatureCache


def flip_the_last_bit(path):
    """Damage in the last tensor that leaves the size as it is."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_sums_are_those_of_the_bytes_in_the_file(dtype, shape, tmp_path):
    """Against zlib on the bytes that safetensors wrote, for numbers without dimensions and without elements too."""
    tensor = torch.ones(shape, dtype=dtype)
    save_with_checksums({"a": tensor}, tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    assert crc32_of_tensor(tensor) == zlib.crc32(data)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert json.loads(file.metadata()["crc32"]) == {"a": zlib.crc32(data)}
    assert torch.equal(load_verified(tmp_path / "a.safetensors")["a"], tensor)


def test_equal_tensors_are_equal_files(tmp_path):
    """Whatever their order."""
    first, second = torch.ones(2), torch.zeros(3)
    save_with_checksums({"a": first, "b": second}, tmp_path / "1")
    save_with_checksums({"b": second, "a": first}, tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_tensor_by_another_name_is_damage(tmp_path):
    """One letter of the header."""
    path = tmp_path / "a.safetensors"
    save_with_checksums({"weight": torch.ones(2)}, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"weight":{', b'"weighs":{'))
    with pytest.raises(ChecksumError, match="tensor 'weighs' is not among those that were written"):
        load_verified(path)


def test_a_damaged_saved_model_is_named_and_an_old_one_is_read(tmp_path):
    """One bit of the weights; a file of other tools or of an earlier version, without sums."""
    autoencoder = build_autoencoder(AutoencoderSpec.model_validate({"kind": "compact-kl", "width": 16}))
    save_autoencoder(autoencoder, tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = load_autoencoder(tmp_path).state_dict()
    assert all(torch.equal(whole[name], value) for name, value in autoencoder.state_dict().items())
    flip_the_last_bit(weights)
    with pytest.raises(CheckpointError, match=r"model\.safetensors' cannot be read: .*does not match its checksum"):
        load_autoencoder(tmp_path)
    save_file(load_file(weights), weights)
    load_autoencoder(tmp_path)


def test_damaged_kept_latents_are_sampled_again(tmp_path):
    """They count as missing, as files that are cut short do."""
    kept = SampledLatents(tmp_path)
    kept.keep([0, 1], torch.randn(2, 1, 2, 2))
    assert SampledLatents(tmp_path).read([0, 1]).keys() == {0, 1}
    flip_the_last_bit(next(tmp_path.glob("*.safetensors")))
    assert SampledLatents(tmp_path).read([0, 1]) == {}


def test_damaged_features_are_computed_again(tmp_path):
    """The second time from the file; after damage again."""
    cache, calls = FeatureCache(directory=tmp_path), []

    def compute(images):
        calls.append(len(images))
        return images.flatten(1)

    images = torch.zeros(2, 3, 2, 2)
    for damaged, expected in ((False, [2]), (False, [2]), (True, [2, 2])):
        if damaged:
            flip_the_last_bit(next(tmp_path.glob("*.safetensors")))
        assert torch.equal(cache.get_or_compute(images, {}, compute), images.flatten(1))
        assert calls == expected
