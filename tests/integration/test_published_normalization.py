"""The choice between published and measured scaling, from the spec to the cache."""

import pytest
import torch
from tiny_runs import run_here, write_spec

from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.data.latents.latent_cache import read_index
from diffusability.core.data.latents.latents import Latents
from diffusability.core.errors import DataError, SpecError
from diffusability.core.specs.components import AutoencoderSpec

pytestmark = pytest.mark.integration

TAESD = {"kind": "taesd", "width": 8}


CLOSE = {"atol": 1e-3, "rtol": 0}


def encode(folder, autoencoder, normalization, **settings):
    content = {
        "name": "encode",
        "data": {"kind": "sample-photos", "resolution": 32},
        "stages": {
            "encode": {
                "kind": "encode",
                "autoencoder": autoencoder,
                "normalization": normalization,
                "num_samples": 8,
                "flips": False,
                **settings,
            }
        },
    }
    plan, runs = run_here(write_spec(folder, content), folder / "runs")
    return runs.stage(plan.order[0]) / "latents"


def test_the_cache_carries_the_scaling_that_the_spec_chose(tmp_path):
    """Published: TAESD's shift 0 and scale 1. Measured: latents that the cache gives have zero mean and unit spread."""
    published = read_index(encode(tmp_path, TAESD, "published"))
    assert published.mean == (0.0,) * 4
    assert published.std == (1.0,) * 4
    data = Latents(encode(tmp_path, TAESD, "measured"))
    latents = torch.stack([data[index].data for index in range(len(data))])
    normalized = data.normalizer.normalize(latents)
    torch.testing.assert_close(torch.Tensor(normalized).mean((0, 2, 3)), torch.zeros(4), atol=2e-3, rtol=0)
    torch.testing.assert_close(torch.Tensor(normalized).std((0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)
    autoencoder = build_autoencoder(AutoencoderSpec.model_validate(TAESD))
    with torch.no_grad():
        direct = autoencoder.decode(latents)
        torch.testing.assert_close(autoencoder.decode(data.normalizer.denormalize(normalized)), direct)


def test_statistics_of_each_place(tmp_path):
    """Mean and standard deviation of every value over the samples, against those of what the cache gives; also across
    two shards, after one of them is encoded anew, and through a saved denoiser."""
    settings = {"num_samples": 6, "shard_size": 4}
    folder = encode(tmp_path, TAESD, "measured-by-place", **settings)
    data = Latents(folder)
    latents = torch.stack([data[index].data for index in range(len(data))]).double()
    assert data.normalizer.mean.shape == (4, 4, 4)
    torch.testing.assert_close(data.normalizer.mean.double(), latents.mean(0), atol=1e-3, rtol=0)
    torch.testing.assert_close(data.normalizer.std.double(), latents.std(0, correction=0), atol=1e-3, rtol=0)
    normalized = data.normalizer.normalize(latents.float())
    torch.testing.assert_close(data.normalizer.denormalize(normalized), latents.float())
    coarse = data.normalizer.per_channel()
    torch.testing.assert_close(coarse.mean.double(), latents.mean((0, 2, 3)), atol=1e-3, rtol=0)
    torch.testing.assert_close(coarse.std.double(), latents.transpose(0, 1).flatten(1).std(1, correction=0), **CLOSE)
    torch.testing.assert_close(torch.tensor(data.index.std), coarse.std)

    (folder.parent / "done.json").unlink()
    (folder / "places-00001.safetensors").unlink()
    again = Latents(encode(tmp_path, TAESD, "measured-by-place", **settings))
    torch.testing.assert_close(again.normalizer.std, data.normalizer.std, rtol=0, atol=0)
    (folder / "normalizer.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match="normaliser of latents"):
        Latents(folder)


def test_an_autoencoder_without_a_published_scaling_says_so(tmp_path):
    """Before anything is encoded."""
    compact = {"kind": "compact-kl", "width": 16, "blocks": 1}
    with pytest.raises(SpecError, match="'compact-kl' has no published scaling of its latents; expected 'measured'"):
        encode(tmp_path, compact, "published")
