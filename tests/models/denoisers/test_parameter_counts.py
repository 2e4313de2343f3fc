import pytest

from diffusability.core.specs.build_context import BuildContext
from diffusability.models.specs.autoencoders.compact_kl import CompactKLSpec
from diffusability.models.specs.denoisers.dit import DiTSpec


def built(spec: CompactKLSpec | DiTSpec, context: BuildContext) -> int:
    return sum(parameter.numel() for parameter in spec.build(context).parameters())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"spatial_factor": 1, "latent_channels": 3},
        {"spatial_factor": 2, "width": 32, "blocks": 1},
        {"spatial_factor": 4, "latent_channels": 8},
        {"spatial_factor": 16, "width": 48, "blocks": 2, "patch_shortcut": False},
        {"spatial_factor": 32, "image_channels": 1, "width": 16, "blocks": 3},
    ],
)
def test_compact_kl_counts_in_closed_form_what_it_builds(settings: dict[str, object]) -> None:
    """The closed form against the sum over the module's parameters."""
    spec = CompactKLSpec(**settings)
    assert spec.num_parameters(BuildContext()) == built(spec, BuildContext())


def test_compact_kl_is_small_by_default() -> None:
    """The default's size against the budget of an autoencoder that trains on a laptop."""
    assert 0.8e6 < CompactKLSpec().num_parameters(BuildContext()) < 1.5e6


@pytest.mark.parametrize(
    ("settings", "latent_shape", "num_classes"),
    [
        ({"size": "Ti/2"}, (4, 8, 8), None),
        ({"size": "Ti/1", "mlp_ratio": 2.5}, (16, 4, 6), 10),
        ({"size": "S/4"}, (8, 16, 16), 1000),
        ({"size": "Ti/2", "norm": "rms", "activation": "swiglu", "qk_norm": True}, (4, 8, 8), 3),
        ({"size": "Ti/2", "learn_sigma": True, "self_conditioning": True, "mlp_ratio": 1.0}, (4, 8, 8), 3),
        ({"size": "Ti/2", "temporal_patch_size": 2, "positions": "rope", "activation": "swiglu"}, (4, 4, 8, 4), None),
        ({"size": "Ti/2", "class_conditional": False}, (4, 3, 8, 8), 10),
    ],
)
def test_dit_counts_in_closed_form_what_it_builds(
    settings: dict[str, object], latent_shape: tuple[int, ...], num_classes: int | None
) -> None:
    """The closed form against the sum over the module's parameters."""
    spec = DiTSpec(**settings)
    context = BuildContext(latent_shape=latent_shape, num_classes=num_classes)
    assert spec.num_parameters(context) == built(spec, context)


@pytest.mark.parametrize(("size", "millions"), [("S/2", 33), ("B/2", 130), ("L/2", 458), ("XL/2", 675)])
def test_dit_sizes_have_the_published_parameter_counts(size: str, millions: float) -> None:
    """The closed form against Peebles & Xie (2023), table 1: 4 latent channels at 32x32, 1000 classes."""
    count = DiTSpec(size=size).num_parameters(BuildContext(latent_shape=(4, 32, 32), num_classes=1000))
    assert count == pytest.approx(millions * 1e6, rel=0.01)


def test_the_count_of_a_dit_is_unknown_without_a_latent_shape() -> None:
    """A plan in which the latent shape is not known yet gets None rather than a number."""
    assert DiTSpec().num_parameters(BuildContext()) is None
