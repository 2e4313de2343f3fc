import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from diffusability.core import plugins
from diffusability.core.resampling import Resampling
from diffusability.core.specs.components import RegularizerSpec
from diffusability.regularizers.specs import KLSpec, ScaleEquivarianceSpec


def test_specs_are_read_without_torch() -> None:
    """A fresh interpreter's loaded modules after importing the specs."""
    code = "import sys, diffusability.regularizers.specs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("kind", "spec_class"), [("kl", KLSpec), ("scale-equivariance", ScaleEquivarianceSpec)])
def test_kinds_are_found_through_entry_points(kind: str, spec_class: type) -> None:
    """The plugin door gives the class that this package holds, and a spec by kind alone gives its defaults."""
    assert plugins.load("regularizers", kind, RegularizerSpec) is spec_class
    assert RegularizerSpec.model_validate({"kind": kind}) == spec_class()


def test_defaults_are_the_papers() -> None:
    """Weights, factors and resampling against the values of the paper."""
    spec = ScaleEquivarianceSpec()
    assert (spec.weight, spec.factors, spec.resampling, spec.each_step) == (0.25, (2, 4), "bilinear", "one")
    assert KLSpec().weight == 1e-6


def test_resamplings_are_those_of_the_core() -> None:
    """The literal in the spec, which may not import torch, against the one of the function that is called."""
    assert get_args(ScaleEquivarianceSpec.model_fields["resampling"].annotation) == get_args(Resampling)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"factors": []}, ("factors",)),
        ({"factors": [2, 1]}, ("factors", 1)),
        ({"factors": [2.5]}, ("factors", 0)),
        ({"resampling": "cubic"}, ("resampling",)),
        ({"each_step": "some"}, ("each_step",)),
        ({"weight": -0.1}, ("weight",)),
        ({"factor": 2}, ("factor",)),
    ],
)
def test_mistakes_are_reported_at_their_place(fields: dict[str, Any], path: tuple[str | int, ...]) -> None:
    """The path of the one error of each wrong spec."""
    with pytest.raises(ValidationError) as caught:
        RegularizerSpec.model_validate({"kind": "scale-equivariance", **fields})
    assert [error["loc"] for error in caught.value.errors()] == [path]


@pytest.mark.parametrize("shape", [(4, 16, 16), (4, 8, 12), (4, 4, 4), (4, 5, 8, 8), (4, 1, 8, 8)])
def test_latents_that_every_factor_divides_pass(shape: tuple[int, ...]) -> None:
    """Images and clips of 1 + 4n latent frames, under factors 2 and 4."""
    ScaleEquivarianceSpec().check_latents(shape)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 6, 8), "factor 4 does not divide latents of 6x8"),
        ((4, 8, 10), "factor 4 does not divide latents of 8x10"),
        ((4, 2, 2), "factor 4 leaves less than one pixel of latents of 2x2"),
        ((4, 4, 8, 8), "factor 2 does not divide the 3 latent frames after the first"),
    ],
)
def test_latents_that_a_factor_does_not_divide_are_refused(shape: tuple[int, ...], message: str) -> None:
    """The message names the factor and the sides."""
    with pytest.raises(ValueError, match=message):
        ScaleEquivarianceSpec().check_latents(shape)


def test_frames_do_not_matter_when_time_is_left_alone() -> None:
    """A clip of an odd number of further frames, with shorten_time off."""
    ScaleEquivarianceSpec(shorten_time=False).check_latents((4, 4, 8, 8))
