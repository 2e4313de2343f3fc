"""What a trained denoiser is given of a batch of real images."""

from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.evaluator import EvaluationBatch
from diffusability.core.errors import DataError
from diffusability.core.shapes import Labels, Latents


def denoiser_inputs(batch: EvaluationBatch) -> tuple[DiffusionModel, Latents, Labels | None]:
    """The model, normalised latents, and labels for a class-conditional model where the data has them.

    Raises:
        DataError: the latents' shape is not the model's.
    """
    assert batch.latents is not None
    assert batch.diffusion_model is not None
    model = batch.diffusion_model
    shape = tuple(batch.latents.shape[1:])
    if shape != tuple(model.latent_shape):
        raise DataError(
            f"latents of shape {shape!r} do not fit a denoiser of latents of shape {tuple(model.latent_shape)!r}"
        )
    latents = model.normalizer.normalize(batch.latents)
    if batch.labels is None or model.num_classes is None:
        return model, latents, None
    return model, latents, batch.labels.to(latents.device)
