import pytest
from pydantic import ValidationError

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
        ({"size": "Ti/1", "num_blocks": 2, "head": {"width": 256, "depth": 3}}, (16, 4, 4), 3),
        ({"size": "Ti/1", "head": {"width": 192, "num_heads": 3}, "qk_norm": True, "norm": "rms"}, (16, 4, 4), None),
        ({"size": "Ti/2", "learn_sigma": True, "self_conditioning": True, "head": {"width": 128}}, (4, 3, 8, 8), 3),
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


def of_published_code(width: int, depth: int) -> int:
    """Tensors of RAE's ``DiTwDDTHead`` for 16 x 16 x 768 latents and 1000 classes: a head of 2 blocks of width 2048."""

    def linear(inputs: int, outputs: int) -> int:
        return inputs * outputs + outputs

    def block(size: int) -> int:
        mlp = int(2 / 3 * 4 * size)
        attention = linear(size, 3 * size) + linear(size, size)
        return 2 * size + attention + linear(size, 2 * mlp) + linear(mlp, size) + linear(size, 6 * size)

    embedders = linear(768, width) + linear(768, 2048) + 256 * width  # the last: sinusoids of places
    time = 256 + linear(512, width) + linear(width, width)
    final = 2048 + linear(2048, 768) + linear(2048, 2 * 2048)
    return embedders + time + 1001 * width + linear(width, 2048) + depth * block(width) + 2 * block(2048) + final


@pytest.mark.parametrize("size", ["S", "B", "L", "XL"])
def test_dits_with_a_head_have_the_counts_of_the_published_code(size: str) -> None:
    """RAE's DiT^DH. Ours lacks what does not train there (sinusoids), weights of norms, half of the time's sinusoids,
    and rounds hidden units of SwiGLU to whole eights. The paper gives 839 million for XL."""
    spec = DiTSpec(size=f"{size}/1", head={}, norm="rms", activation="swiglu", positions="both")
    ours = spec.num_parameters(BuildContext(latent_shape=(768, 16, 16), num_classes=1000))
    assert ours is not None
    width, depth = spec.hidden_size, spec.depth
    fixed = 256 * width + 256
    norms = depth * 2 * width + (2 * 2 + 1) * 2048
    mlp = sum(
        blocks * (int(8 / 3 * size) - 8 * round(size / 3)) * (3 * size + 2)
        for blocks, size in ((depth, width), (2, 2048))
    )
    assert ours + fixed + norms + 256 * width + mlp == of_published_code(width, depth)
    if size == "XL":
        assert of_published_code(width, depth) / 1e6 == pytest.approx(839, abs=0.5)
        assert ours / 1e6 == pytest.approx(839, rel=2e-3)


@pytest.mark.parametrize(
    ("size", "num_blocks", "head", "millions"),
    [("XL/2", 22, {"width": 1152, "depth": 6, "num_heads": 16}, 675), ("L/2", 20, {"width": 1024, "depth": 4}, 458)],
)
def test_ddt_has_the_published_parameter_counts(size: str, num_blocks: int, head: dict, millions: float) -> None:
    """DDT-XL/2 (22En6De) and DDT-L/2 (20En4De) of Wang et al. (2025), table 2."""
    spec = DiTSpec(size=size, num_blocks=num_blocks, head=head, norm="rms", activation="swiglu", positions="rope")
    count = spec.num_parameters(BuildContext(latent_shape=(4, 32, 32), num_classes=1000))
    assert count == pytest.approx(millions * 1e6, rel=2e-3)


@pytest.mark.parametrize(
    ("head", "message"),
    [({"width": 100, "num_heads": 3}, "not divisible"), ({"width": 2048, "heads": 16}, "unknown key 'heads'")],
)
def test_heads_that_cannot_be_are_refused(head: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DiTSpec(head=head)


def test_the_count_of_a_dit_is_unknown_without_a_latent_shape() -> None:
    """A plan in which the latent shape is not known yet gets None rather than a number."""
    assert DiTSpec().num_parameters(BuildContext()) is None
