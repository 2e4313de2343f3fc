"""``sample``: samples of a denoiser that a program holds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.parametrisation import Parametrisation, Prediction
from diffusability.core.contracts.velocity_model import VelocityModel
from diffusability.core.errors import SpecError
from diffusability.core.facade.checked import checked
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.shapes import Images, Labels, Latents, Predictions, Times
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import SamplerSpec
from diffusability.core.specs.guidance import needs_classes, no_classes_message


class CallableDenoiser(Denoiser):
    """A function, or any module, of latents, times and labels; without classes, of latents and times."""

    def __init__(self, function: Callable[..., Any], num_classes: int | None) -> None:
        super().__init__()
        self.function = function
        self.num_classes = num_classes

    def forward(
        self, latents: Latents, time: Times, labels: Labels | None, previous_estimate: Latents | None = None
    ) -> Predictions:
        """What the function returns."""
        made: Tensor = self.function(latents, time, *(() if self.num_classes is None else (labels,)))
        return made


@torch.no_grad()
def sample(
    denoiser: Any,
    latent_shape: Sequence[int],
    num: int = 16,
    *,
    labels: Labels | Sequence[int] | int | None = None,
    num_classes: int | None = None,
    sampler: str | Mapping[str, Any] = "euler",
    steps: int | None = None,
    guidance_scale: float = 1.0,
    prediction: Prediction = "velocity",
    normalizer: LatentNormalizer | None = None,
    decode: Callable[[Latents], Images] | None = None,
    seed: int = 0,
    first: int = 0,
    device: torch.device | str | None = None,
) -> Images:
    """Samples of a denoiser: latents, or images where ``decode`` is given.

    Time runs from data at 0 to noise at 1, on the straight path ``z_t = (1 - t) z + t eps``, with the velocity ``eps -
    z``. Sample k depends on the seed and k alone, so that ``num=8`` and ``num=8, first=8`` are the two halves of
    ``num=16``.

    Args:
        denoiser: of ``DiT`` or a run, or any function of latents, times and (with classes) labels.
        latent_shape: ``(c, h, w)`` or ``(c, t, h, w)`` of a sample.
        num: how many.
        labels: their classes, or one for all; default: drawn at random.
        num_classes: class labels of a function; a ``Denoiser`` knows them.
        sampler: a kind, such as ``"heun"``, or a mapping with its settings.
        steps: steps of the sampler.
        guidance_scale: classifier-free guidance; 1 is none.
        prediction: what the denoiser predicts: ``velocity``, ``data`` or ``noise``.
        normalizer: undone after sampling; what the latents were normalised with.
        decode: raw latents to images, such as ``autoencoder.decode``.
        seed: of noise and labels.
        first: number of the first sample.
        device: where to compute; default: where the denoiser's weights are.

    Raises:
        SpecError: the sampler or one of its settings is unknown, or guidance is asked of a model without classes.
    """
    model = denoiser if isinstance(denoiser, Denoiser) else CallableDenoiser(denoiser, num_classes)
    where = torch.device(device) if device is not None else _device_of(model)
    spec = _sampler(sampler, steps, guidance_scale)
    if needs_classes(spec) and model.num_classes is None:
        raise SpecError(no_classes_message(spec.guidance_scale, "this one is unconditional (num_classes is None)"))
    made = spec.build(BuildContext(latent_shape=tuple(latent_shape), num_classes=model.num_classes))
    randomness = BatchRandomness(seed=seed, step=0, positions=range(first, first + num))
    noise = randomness.normal("sampling", tuple(latent_shape), where)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        velocities = (
            model
            if isinstance(model, VelocityModel)
            else VelocityModel(model, Parametrisation(prediction=prediction), normalizer)
        )
        latents = made.sample(velocities, noise, _labels(labels, num, model.num_classes, randomness, where), randomness)
    finally:
        for module, training in modes.items():
            module.training = training
    raw: Tensor = latents.float() if normalizer is None else normalizer.to(where).denormalize(latents.float())
    return raw if decode is None else decode(raw).clamp(-1, 1)


def _sampler(sampler: str | Mapping[str, Any], steps: int | None, guidance_scale: float) -> SamplerSpec:
    given: dict[str, Any] = {"kind": sampler} if isinstance(sampler, str) else {"kind": "euler", **sampler}
    if steps is not None:
        given["steps"] = steps
    if guidance_scale != 1.0:
        given["guidance_scale"] = guidance_scale
    return checked(SamplerSpec, given, "sampler")


def _labels(
    labels: Labels | Sequence[int] | int | None,
    num: int,
    num_classes: int | None,
    randomness: BatchRandomness,
    device: torch.device,
) -> Labels | None:
    if num_classes is None:
        if labels is not None:
            raise SpecError(
                "labels were given, and the model is unconditional; give num_classes for a function of labels"
            )
        return None
    if labels is None:
        drawn: Tensor = randomness.integers("sampling-labels", num_classes, device)
        return drawn
    chosen = torch.as_tensor([labels] * num if isinstance(labels, int) else labels, device=device)
    if len(chosen) != num or int(chosen.min()) < 0 or int(chosen.max()) >= num_classes:
        raise SpecError(f"labels are {chosen.tolist()!r}; expected {num} numbers from 0 to {num_classes - 1}")
    return chosen


def _device_of(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
