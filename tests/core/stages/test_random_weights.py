"""Which autoencoders say that they have random weights: every kind, with and without what it can be given."""

import pytest

from diffusability.core.errors import DataError
from diffusability.core.plugins import registry
from diffusability.core.scoring.scorecard_table import scorecard_table
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec

SMALL = {"kind": "compact-kl", "latent_channels": 4, "width": 16}

#: What a configuration of AutoencoderKL must say.
KL = {"block_out_channels": [8, 8], "latent_channels": 4, "in_channels": 3}

#: Kinds that cannot be made without weights, or have none.
OTHERS = {"saved", "stage", "dct", "diffusers", "channel-variant", "python", "rae"}


def random_weights(**fields):
    return AutoencoderSpec.model_validate(fields).random_weights()


@pytest.mark.parametrize("kind", sorted(set(registry.kinds("autoencoders")) - OTHERS))
def test_every_kind_without_weights_is_random(kind):
    """Presets, compact and tiny autoencoders, by their names alone."""
    assert random_weights(kind=kind) == "all weights"


@pytest.mark.parametrize("kind", ["flux", "sd", "wan"])
def test_presets_with_a_path_are_not(kind):
    assert random_weights(kind=kind, path="some/where") == ""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"kind": "dct"}, ""),
        ({"kind": "saved", "path": "x"}, ""),
        ({"kind": "stage", "stage": "x"}, ""),
        ({"kind": "taesd", "encoder": "e.pth"}, "the decoder's weights"),
        ({"kind": "taesd", "encoder": "e.pth", "decoder": "d.pth"}, ""),
        ({"kind": "diffusers", "path": "x/y"}, ""),
        ({"kind": "diffusers", "config": {"_class_name": "AutoencoderKL", **KL}}, "all weights"),
        ({"kind": "channel-variant", "autoencoder": SMALL, "latent_channels": 2}, "all weights"),
        (
            {"kind": "channel-variant", "autoencoder": {"kind": "dct", "num_coefficients": 1}, "latent_channels": 5},
            "the weights of 2 added latent channels",
        ),
    ],
)
def test_others_by_what_they_are_given(fields, expected):
    assert random_weights(**fields) == expected


def test_the_scorecard_marks_their_columns():
    def entry(**spec):
        return {"psnr": {"value": 1.0, "higher_is_better": True, "unit": "dB", "spec": spec}}

    table = scorecard_table({"mine": entry(), "sd": entry(random_weights="all weights (seed 0)")})
    assert [column.header for column in table.columns[2:]] == ["mine", "sd\n[yellow]random weights[/yellow]"]


def test_channels_are_not_found_from_fewer_examples_than_asked_for():
    """PCA of 9 examples by name, of data that has 4: refused; the default takes what there is."""
    fields = {
        "kind": "channel-variant",
        "autoencoder": {**SMALL, "spatial_factor": 4, "blocks": 1},
        "latent_channels": 2,
        "data": {"kind": "sample-photos", "resolution": 32, "size": 4},
    }
    with pytest.raises(DataError, match="num_samples is 9, and its data has 4"):
        AutoencoderSpec.model_validate({**fields, "num_samples": 9}).build(BuildContext())
    assert AutoencoderSpec.model_validate(fields).build(BuildContext()).info.latent_channels == 2
