import pytest
from pydantic import ValidationError

from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import ObjectiveSpec, SamplerSpec
from diffusability.models.samplers.euler import EulerSampler
from diffusability.models.specs.autoencoders.compact_kl import CompactKLSpec
from diffusability.models.specs.denoisers.dit import DiTSpec
from diffusability.models.specs.objectives.flow_matching import FlowMatchingSpec
from diffusability.models.specs.objectives.reconstruction import ReconstructionSpec


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "reconstruction", "autoencoder": {"kind": "compact-kl", "width": 32}, "l1": 0.0, "mse": 1.0},
        {"kind": "flow-matching", "denoiser": {"kind": "dit", "size": "B/4"}, "time_distribution": "uniform"},
        {"kind": "flow-matching", "denoiser": {"kind": "dit"}, "time_mean": -0.5},
    ],
)
def test_specs_survive_being_written_out(data: dict[str, object]) -> None:
    """A dumped and validated spec against the first, nested kinds included."""
    spec = ObjectiveSpec.model_validate(data)
    assert ObjectiveSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_objectives_count_the_parameters_of_what_they_train() -> None:
    """The count of an objective against that of its model."""
    context = BuildContext(latent_shape=(4, 8, 8), num_classes=10)
    autoencoder, denoiser = CompactKLSpec(latent_channels=4), DiTSpec(size="Ti/2")
    assert ReconstructionSpec(autoencoder=autoencoder).num_parameters(context) == autoencoder.num_parameters(context)
    assert FlowMatchingSpec(denoiser=denoiser).num_parameters(context) == denoiser.num_parameters(context)


def test_the_sampler_takes_steps_and_guidance_from_its_spec() -> None:
    """The built sampler's settings against the spec's."""
    sampler = SamplerSpec.model_validate({"kind": "euler", "steps": 7, "guidance_scale": 2}).build(BuildContext())
    assert isinstance(sampler, EulerSampler)
    assert (sampler.steps, sampler.guidance.scale) == (7, 2.0)


@pytest.mark.parametrize(
    ("spec_class", "data", "message"),
    [
        (CompactKLSpec, {"spatial_factor": 12}, "spatial_factor is 12; expected a power of two"),
        (CompactKLSpec, {"spatial_factor": 0}, "greater than 0"),
        (CompactKLSpec, {"width": 40}, "width is 40; expected a multiple of 16"),
        (CompactKLSpec, {"latent_channels": 0}, "greater than 0"),
        (CompactKLSpec, {"latent_chanels": 8}, "did you mean 'latent_channels'"),
        (DiTSpec, {"size": "M/2"}, "unknown DiT size 'M/2'; expected one of Ti, S, B, L, XL"),
        (DiTSpec, {"size": "S"}, "unknown DiT size 'S'"),
        (DiTSpec, {"size": "S/0"}, "unknown DiT size 'S/0'"),
        (DiTSpec, {"size": "S/2/2"}, "unknown DiT size 'S/2/2'"),
        (FlowMatchingSpec, {"denoiser": {"kind": "dit"}, "label_dropout": 1.0}, "less than 1"),
        (ReconstructionSpec, {"autoencoder": {"kind": "compact-kl"}, "l1": 0}, "l1 and mse are both 0"),
        (ReconstructionSpec, {"autoencoder": {"kind": "compact-k"}}, "did you mean 'compact-kl'"),
        (
            FlowMatchingSpec,
            {"denoiser": {"kind": "dit"}, "time_distribution": "uniform", "time_std": 2.0},
            "time_std 2.0 shape logit-normal times",
        ),
        (FlowMatchingSpec, {"denoiser": {"kind": "dit"}, "time_distribution": "cosine"}, "'logit-normal' or 'uniform'"),
    ],
)
def test_bad_settings_are_refused_with_a_reason(spec_class: type, data: dict[str, object], message: str) -> None:
    """The message names the value and what was expected."""
    with pytest.raises(ValidationError, match=message):
        spec_class(**data)
