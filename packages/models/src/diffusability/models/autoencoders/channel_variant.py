"""Builds an autoencoder with another number of latent channels than the one that it starts from."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder, build_autoencoder
from diffusability.core.errors import DataError, SpecError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.models.autoencoders.bottleneck import Bottleneck, bottleneck_of
from diffusability.models.autoencoders.bottleneck_surgery import (
    ChannelMap,
    decoder_metric,
    identity_map,
    operate,
    principal_map,
)
from diffusability.models.specs.autoencoders.channel_variant import ChannelVariantSpec
from diffusability.models.specs.autoencoders.diffusers import DiffusersSpec
from diffusability.models.specs.autoencoders.diffusers_classes import LAYOUTS

_ENCODED_AT_ONCE = 8


def build_channel_variant(spec: ChannelVariantSpec, context: BuildContext) -> Autoencoder:
    """An autoencoder of the same kind and with the same weights except for the bottleneck.

    Raises:
        SpecError: the bottleneck of that kind cannot be changed, or there is no data for PCA.
    """
    base = build_autoencoder(spec.autoencoder, context).eval()
    old = bottleneck_of(base)
    assert base.spec is not None
    variant = build_autoencoder(_resized(base.spec, spec.latent_channels))
    if context.untrained:
        return variant.train()
    variant.train(base.training)
    new = bottleneck_of(variant)
    _copy_the_rest(base, variant, {id(parameter) for conv in new.all() for parameter in conv.parameters()})
    generator = torch.Generator().manual_seed(context.seed)
    operate(old, new, _map(spec, context, base, old), generator)
    return variant.train()


def _resized(spec: AutoencoderSpec, channels: int) -> AutoencoderSpec:
    if not isinstance(spec, DiffusersSpec):
        return spec.model_copy(update={"latent_channels": channels})
    assert spec.config is not None
    config: dict[str, Any] = dict(spec.config)
    config[LAYOUTS[config["_class_name"]].latent_channels] = channels
    # The published scaling was of other latents.
    config |= {name: None for name in ("latents_mean", "latents_std", "shift_factor") if name in config}
    config |= {"scaling_factor": 1.0} if "scaling_factor" in config else {}
    return spec.model_copy(update={"config": config})


@torch.no_grad()
def _copy_the_rest(base: Autoencoder, variant: Autoencoder, bottleneck: set[int]) -> None:
    source = base.state_dict()
    for name, parameter in variant.named_parameters():
        if id(parameter) not in bottleneck:
            parameter.copy_(source[name])


def _map(spec: ChannelVariantSpec, context: BuildContext, base: Autoencoder, bottleneck: Bottleneck) -> ChannelMap:
    old, new = base.info.latent_channels, spec.latent_channels
    if new >= old or spec.shrink_by == "drop":
        return identity_map(old, new)
    return principal_map(_second_moment(spec, context, base), new, decoder_metric(bottleneck))


@torch.no_grad()
def _second_moment(spec: ChannelVariantSpec, context: BuildContext, base: Autoencoder) -> Float[Tensor, "c c"]:
    """Mean of ``z z^T`` over pixels and examples of the data, for the modes of posteriors."""
    if spec.data is None:
        raise SpecError("shrinking by pca needs 'data': a dataset of images or cached latents; or shrink_by: drop")
    dataset = spec.data.build(context, "train")
    count = min(spec.num_samples, len(dataset))
    if count < spec.num_samples and "num_samples" in spec.model_fields_set:
        raise DataError(f"channel-variant: num_samples is {spec.num_samples}, and its data has {count}")
    examples = [dataset[index * len(dataset) // count].data for index in range(count)]
    total = torch.zeros(base.info.latent_channels, base.info.latent_channels, dtype=torch.float64)
    pixels = 0
    for first in range(0, count, _ENCODED_AT_ONCE):
        batch = torch.stack(examples[first : first + _ENCODED_AT_ONCE])
        latents = batch if spec.data.holds == "latents" else base.encode(batch).mode()
        flat = latents.double().transpose(0, 1).flatten(1)
        total += flat @ flat.T
        pixels += flat.shape[1]
    return total / pixels
