import math
import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.numerics.resampling import Resampling
from diffusability.core.plugins import registry
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import RegularizerSpec
from diffusability.regularizers.specs.kl import KLSpec
from diffusability.regularizers.specs.local_correlation import LocalCorrelationSpec
from diffusability.regularizers.specs.scale_equivariance import ScaleEquivarianceSpec

KINDS = [
    plugin.kind for plugin in registry.installed("regularizers") if plugin.distribution == "diffusability-regularizers"
]
#: Kinds that a spec can name without saying more.
PLAIN = [kind for kind in KINDS if kind != "representation-alignment"]


def test_specs_are_read_without_torch() -> None:
    """A fresh interpreter's loaded modules after importing all spec modules."""
    modules = [registry.find("regularizers", kind).module for kind in KINDS]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_all_kinds_are_there() -> None:
    """The kinds that the documentation lists."""
    assert KINDS == [
        "channel-dropout", "decoder-lipschitz", "equivariance", "frequency-chop", "high-frequency-penalty", "kl",
        "latent-masking", "latent-noise", "local-correlation", "representation-alignment", "scale-equivariance",
        "spectrum-matching", "variance-expansion", "velocity-variance",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", PLAIN)
def test_kinds_are_found_through_entry_points(kind: str) -> None:
    """A spec by kind alone gives the class that the door loads, with a summary, and survives a round trip."""
    spec_class = registry.load("regularizers", kind, RegularizerSpec)
    spec = RegularizerSpec.model_validate({"kind": kind})
    assert spec == spec_class()
    assert RegularizerSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert spec_class.__doc__
    assert spec_class.__doc__.splitlines()[0].endswith(".")


@pytest.mark.parametrize("kind", PLAIN)
def test_needs_of_specs_are_those_of_modules(kind: str) -> None:
    """What checking compares against what the module says."""
    from diffusability.core.specs.build_context import AutoencoderInfo

    info = AutoencoderInfo(latent_channels=4, spatial_factor=2)
    spec = RegularizerSpec.model_validate({"kind": kind})
    regularizer = spec.build(BuildContext(autoencoder=info))
    assert isinstance(regularizer, Regularizer)
    assert regularizer.needs == spec.needs


def test_defaults_are_the_papers() -> None:
    """Weights, factors and resampling against the values of the paper."""
    spec = ScaleEquivarianceSpec()
    assert (spec.weight, spec.factors, spec.resampling, spec.each_step) == (0.25, (2, 4), "mean", "one")
    assert spec.perceptual is False  # the authors' configuration has it; docs/regularizers.md says so
    assert KLSpec().weight == 1e-6


def test_a_default_that_changes_is_another_stage() -> None:
    """What a stage's digest is made of: the default, the same by name, and the default of before."""
    default, named, before = (
        ScaleEquivarianceSpec(),
        ScaleEquivarianceSpec(resampling="mean"),
        ScaleEquivarianceSpec(resampling="bilinear"),
    )
    assert default.identity() == named.identity() != before.identity()


def test_resamplings_are_those_of_the_core() -> None:
    """The literal in the spec, which may not import torch, against the one of the function that is called."""
    assert get_args(ScaleEquivarianceSpec.model_fields["resampling"].annotation) == get_args(Resampling)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf, -math.inf, "much"])
def test_weights_are_finite_and_not_negative(kind: str, weight: object) -> None:
    """Every kind, with the place of the mistake."""
    with pytest.raises(ValidationError) as caught:
        RegularizerSpec.model_validate({"kind": kind, "weight": weight})
    assert [error["loc"] for error in caught.value.errors()] == [("weight",)]


MISTAKES: list[tuple[str, dict[str, Any], tuple[str | int, ...]]] = [
    ("scale-equivariance", {"factors": []}, ("factors",)),
    ("scale-equivariance", {"factors": [2, 1]}, ("factors", 1)),
    ("scale-equivariance", {"factors": [[2, 0.5]]}, ("factors", 0)),
    ("scale-equivariance", {"temporal_factors": [0]}, ("temporal_factors", 0)),
    ("scale-equivariance", {"temporal_factors": [2], "shorten_time": False}, ()),
    ("scale-equivariance", {"resampling": "cubic"}, ("resampling",)),
    ("scale-equivariance", {"each_step": "some"}, ("each_step",)),
    ("scale-equivariance", {"factor": 2}, ("factor",)),
    ("scale-equivariance", {"name": "a.b"}, ("name",)),
    ("kl", {"target": 0}, ("target",)),
    ("kl", {"free_bits": -1}, ("free_bits",)),
    ("frequency-chop", {"max_ratio": 1}, ("max_ratio",)),
    ("equivariance", {"probability": 1.5}, ("probability",)),
    ("latent-masking", {"ratios": [0.5]}, ()),
    ("latent-masking", {"ratios": [0.5], "probabilities": [1.2]}, ("probabilities", 0)),
    ("latent-noise", {"max_level": 1.5}, ()),
    ("local-correlation", {"window": [2, 1, 1]}, ("window",)),
    ("channel-dropout", {"keep": []}, ("keep",)),
    ("representation-alignment", {}, ("features",)),
    ("representation-alignment", {"features": {"kind": "no-such"}}, ("features", "kind")),
]


@pytest.mark.parametrize(("kind", "fields", "path"), MISTAKES)
def test_mistakes_are_reported_at_their_place(kind: str, fields: dict[str, Any], path: tuple[str | int, ...]) -> None:
    """The path of the one error of each wrong spec."""
    with pytest.raises(ValidationError) as caught:
        RegularizerSpec.model_validate({"kind": kind, **fields})
    assert [error["loc"] for error in caught.value.errors()] == [path]


def fits(spec: ScaleEquivarianceSpec | LocalCorrelationSpec, latent_shape: tuple[int, ...]) -> bool:
    """Whether checking accepts latents of this shape."""
    try:
        spec.check_latents(latent_shape)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("shape", [(4, 16, 16), (4, 8, 12), (4, 4, 4), (4, 5, 8, 8), (4, 1, 8, 8)])
def test_latents_that_every_factor_divides_pass(shape: tuple[int, ...]) -> None:
    """Images and clips of 1 + 4n latent frames, under factors 2 and 4; with one more column none of them does."""
    assert fits(ScaleEquivarianceSpec(), shape)
    assert not fits(ScaleEquivarianceSpec(), (*shape[:-1], shape[-1] + 1))


UNFIT: list[tuple[str, dict[str, Any], tuple[int, ...], str]] = [
    ("scale-equivariance", {}, (4, 6, 8), "factor 4 does not divide latents of 6x8"),
    ("scale-equivariance", {}, (4, 8, 10), "factor 4 does not divide latents of 8x10"),
    ("scale-equivariance", {}, (4, 2, 2), "factor 4 leaves less than one pixel of latents of 2x2"),
    ("scale-equivariance", {}, (4, 4, 8, 8), "factor 2 does not divide the 3 latent frames after the first"),
    ("scale-equivariance", {"factors": [1.5]}, (4, 5, 8, 8), "clips cannot be shortened by the factor 1.5"),
    ("scale-equivariance", {"temporal_factors": [2]}, (4, 8, 8), "this autoencoder is one of images"),
    ("frequency-chop", {}, (4, 12, 8), "block_size 8 does not divide latents of 12x8"),
    ("high-frequency-penalty", {}, (4, 12, 8), "block_size 8 does not divide latents of 12x8"),
    ("velocity-variance", {}, (4, 12, 8), "block_size 8 does not divide latents of 12x8"),
    ("latent-masking", {"block_size": 3}, (4, 8, 8), "block_size 3 does not divide latents of 8x8"),
    ("local-correlation", {}, (4, 8, 7), "a window of 2x2 does not divide latents of 8x7"),
    ("local-correlation", {}, (1, 8, 8), "over their channels; expected at least 2"),
    ("local-correlation", {}, (4, 4, 8, 8), "a window of 2 frames does not divide the 3 latent frames"),
    ("channel-dropout", {"keep": [2, 4]}, (4, 8, 8), "of 4 latent channels drops none"),
    ("channel-dropout", {}, (1, 8, 8), "of 1 latent channels drops none"),
    ("equivariance", {}, (4, 1, 1), "less than one pixel"),
    ("spectrum-matching", {}, (4, 1, 8), "have no spectrum"),
]


@pytest.mark.parametrize(("kind", "fields", "shape", "message"), UNFIT)
def test_latents_that_do_not_fit_are_refused(
    kind: str, fields: dict[str, Any], shape: tuple[int, ...], message: str
) -> None:
    """Through the door that checking uses; the message names what does not fit."""
    spec = RegularizerSpec.model_validate({"kind": kind, **fields})
    with pytest.raises(ValueError, match=message):
        spec.check_model(BuildContext(latent_shape=shape))


def test_kinds_for_images_alone_refuse_clips() -> None:
    """Those that say so; the others take clips of which their sizes fit."""
    refused = []
    for kind in KINDS:
        spec_class = registry.load("regularizers", kind, RegularizerSpec)
        spec = spec_class.model_construct() if kind == "representation-alignment" else spec_class()
        if spec_class.clips:
            spec.check_model(BuildContext(latent_shape=(4, 5, 8, 8)))
            continue
        with pytest.raises(ValueError, match="works on images only"):
            spec.check_model(BuildContext(latent_shape=(4, 5, 8, 8)))
        refused.append(kind)
    assert refused == ["representation-alignment"]


def test_frames_do_not_matter_when_time_is_left_alone() -> None:
    """A clip of three further frames, which pairs do not divide: fine with shorten_time off, with time cut in three,
    and for windows of one frame; not for what takes pairs of frames by default."""
    clip = (4, 4, 8, 8)
    assert not fits(ScaleEquivarianceSpec(), clip)
    assert fits(ScaleEquivarianceSpec(shorten_time=False), clip)
    assert not fits(ScaleEquivarianceSpec(factors=(1.5,)), clip)
    assert fits(ScaleEquivarianceSpec(factors=(1.5,), temporal_factors=(3,)), clip)
    assert not fits(LocalCorrelationSpec(), clip)
    assert fits(LocalCorrelationSpec(window=(1, 2, 2)), clip)
