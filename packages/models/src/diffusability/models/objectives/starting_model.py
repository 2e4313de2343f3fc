"""The denoiser that training starts from: a fresh one, or what an earlier stage trained."""

from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.parametrisation import Parametrisation
from diffusability.core.errors import SpecError
from diffusability.core.models.saved_models import trained_model
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import DenoiserSpec


def starting_model(spec: DenoiserSpec, context: BuildContext, parametrisation: Parametrisation) -> DiffusionModel:
    """The denoiser of a spec, with the spec that rebuilds it without any earlier stage.

    A fresh denoiser comes with the identity as its normaliser.

    Raises:
        SpecError: the context has no latent shape, or the earlier model is for other latents, classes or predictions.
    """
    if context.latent_shape is None:
        raise SpecError(f"denoiser {spec.kind!r} needs to know the shape of its latents, and the context has none")
    if spec.trained_in(context) is None:
        denoiser = spec.build(context)
        return DiffusionModel(
            denoiser=denoiser,
            normalizer=LatentNormalizer.identity(context.latent_shape[0]),
            latent_shape=context.latent_shape,
            num_classes=denoiser.num_classes,
            spec=denoiser.spec or spec,
            parametrisation=parametrisation,
        )
    model = trained_model(spec, context)
    origin = (
        f"of stage {stage!r}" if (stage := getattr(spec, "stage", None)) else f"in {str(spec.trained_in(context))!r}"
    )
    actual = (model.latent_shape, model.num_classes)
    ignores_classes = getattr(model.spec, "class_conditional", True) is False
    wanted = (context.latent_shape, None if ignores_classes else context.num_classes)
    if actual != wanted:
        raise SpecError(
            f"the denoiser {origin} is for latents of shape {actual[0]!r} and {actual[1]!r} classes;"
            f" the data has shape {wanted[0]!r} and {wanted[1]!r} classes"
        )
    if model.parametrisation != parametrisation:
        raise SpecError(
            f"the denoiser {origin} was trained with {model.parametrisation!r}, and this objective trains"
            f" {parametrisation!r}; expected the same"
        )
    return model
