"""What one image costs in an autoencoder, and one sample of a denoiser, without gradients."""

from collections.abc import Callable
from typing import TypeVar

import attrs
import torch
from torch import Tensor, nn

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.cost.amounts import Flops, UnknownCost
from diffusability.core.cost.pass_meter import PassMeter
from diffusability.core.cost.stand_ins import NUM_CLASSES, stand_in, weights_without_content
from diffusability.core.cost.standalone import refuse_weights
from diffusability.core.cost.training_cost import measuring
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.shapes import Labels, Latents, Predictions, Times
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec, SamplerSpec
from diffusability.core.stages.runtime import default_sampler

Result = TypeVar("Result")


@attrs.frozen(kw_only=True)
class AutoencoderCost:
    """What an autoencoder costs per image, and the memory that weights and one batch take."""

    encode: Flops
    decode: Flops
    encode_bytes: int
    decode_bytes: int


def autoencoder_cost(
    spec: AutoencoderSpec,
    context: BuildContext,
    image_shape: tuple[int, ...],
    batch_size: int,
    dtype: torch.dtype | None = None,
    cuda: bool = True,
) -> AutoencoderCost:
    """Encoding and decoding of images of a shape ``(c, *t, h, w)``, in float32 or under autocast.

    Raises:
        UnknownCost: the autoencoder cannot be built without weights, or does not run on fake tensors.
    """
    refuse_weights(spec)
    try:
        with torch.random.fork_rng(devices=[]), weights_without_content() as weights:
            autoencoder = spec.build(context).eval()
        encoding, posterior = _measured(autoencoder.encode, (batch_size, *image_shape), dtype, cuda)
        decoding, _ = _measured(autoencoder.decode, tuple(posterior.mean.shape), dtype, cuda)
    except UnknownCost:
        raise
    except Exception as error:
        raise _does_not_run(f"autoencoder {spec.kind!r}", error) from error
    weight_bytes = _bytes_of(weights)
    return AutoencoderCost(
        encode=encoding.flops * (1 / batch_size),
        decode=decoding.flops * (1 / batch_size),
        encode_bytes=weight_bytes + encoding.peak,
        decode_bytes=weight_bytes + decoding.peak,
    )


@attrs.frozen(kw_only=True)
class SamplingCost:
    """What a sample costs before it is decoded, and the memory that weights and one evaluation of a batch take."""

    flops: Flops
    memory_bytes: int
    notes: tuple[str, ...] = ()


def sampling_cost(
    model: DiffusionModel,
    sampler: SamplerSpec | None,
    batch_size: int,
    dtype: torch.dtype | None = None,
    cuda: bool = True,
) -> SamplingCost:
    """One sample of a model: as many evaluations as the sampler asks for, counted on a denoiser that does nothing.

    Raises:
        UnknownCost: the sampler needs weights, or the denoiser does not run on fake tensors.
    """
    spec = default_sampler(sampler)
    notes: tuple[str, ...] = ()
    if getattr(spec, "guide", None) is not None:
        spec = spec.model_copy(update={"guide": None})
        notes = ("the guide of the sampler counts as the model itself",)
    refuse_weights(spec)
    try:
        rows = _evaluations(model, spec)
        per_batch = batch_size * (2 if spec.guidance_scale != 1 else 1)
        denoiser = model.denoiser.eval()
        time, labels = torch.full((per_batch,), 0.5), torch.zeros(per_batch, dtype=torch.long)
        given = labels if model.denoiser.num_classes is not None else None
        meter, _ = _measured(lambda z: denoiser(z, time, given), (per_batch, *model.latent_shape), dtype, cuda)
    except UnknownCost:
        raise
    except Exception as error:
        raise _does_not_run("the denoiser or its sampler", error) from error
    return SamplingCost(
        flops=meter.flops * (rows / per_batch),
        memory_bytes=_bytes_of(list(denoiser.parameters())) + meter.peak,
        notes=notes,
    )


class _Counting(Denoiser):
    """Predicts zeros and counts the samples that it is called with."""

    def __init__(self, like: Denoiser) -> None:
        super().__init__()
        self.num_classes = like.num_classes
        self.learn_sigma = like.learn_sigma
        self.self_conditioning = like.self_conditioning
        self.num_rows = 0

    def forward(
        self, latents: Latents, time: Times, labels: Labels | None, previous_estimate: Latents | None = None
    ) -> Predictions:
        """Zeros."""
        self.num_rows += len(latents)
        return torch.zeros_like(latents).repeat(1, 2 if self.learn_sigma else 1, *[1] * (latents.ndim - 2))


def _evaluations(model: DiffusionModel, sampler: SamplerSpec) -> int:
    """Evaluations of the denoiser per sample; guidance by classes doubles them."""
    counting = _Counting(model.denoiser)
    labels = torch.zeros(1, dtype=torch.long) if counting.num_classes is not None else None
    randomness = BatchRandomness(seed=0, step=0, positions=[0])
    with torch.no_grad():
        noise = torch.zeros(1, *model.latent_shape)
        velocity_model = attrs.evolve(model, denoiser=counting).velocity_model()
        sampler.build(BuildContext(num_classes=NUM_CLASSES)).sample(velocity_model, noise, labels, randomness)
    return counting.num_rows


def _measured(
    call: Callable[[Tensor], Result], shape: tuple[int, ...], dtype: torch.dtype | None, cuda: bool
) -> tuple[PassMeter, Result]:
    given = stand_in(shape)
    with (
        torch.no_grad(),
        measuring(cuda) as meter,
        torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        result = call(given)
    return meter, result


def _bytes_of(weights: list[nn.Parameter]) -> int:
    return sum(weight.numel() * weight.element_size() for weight in weights)


def _does_not_run(what: str, error: Exception) -> UnknownCost:
    message = " ".join(str(error).split())[:120]
    return UnknownCost(f"{what} does not run on fake tensors ({type(error).__name__}: {message})")
