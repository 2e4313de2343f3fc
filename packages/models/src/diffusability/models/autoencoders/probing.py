"""Shape facts of an autoencoder of which nothing is known, found by encoding and decoding small inputs."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.errors import PluginError
from diffusability.core.plugins.source_module import call_target
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.files.contents import contents
from diffusability.models.autoencoders.conventions import images_of, posterior_of
from diffusability.models.specs.autoencoders.python import PythonAutoencoderSpec

_SIDES = (64, 128, 256)
_CHANNELS = (3, 1)
_FRAMES = 17
#: Two samples: layers take a batch of one for a sample without a batch, and the other way round.
_BATCH = 2


def made_by(spec: PythonAutoencoderSpec, context: BuildContext) -> nn.Module:
    """What the target makes.

    Raises:
        PluginError: it is not a module with ``encode`` and ``decode``.
    """
    name = f"autoencoder {spec.target!r}"
    model = call_target(spec.source, spec.options, name, {"context": context, "split": None})
    if not isinstance(model, nn.Module):
        raise PluginError(
            f"{name}: {spec.source.name} returned {_article(type(model).__name__)}; expected a torch.nn.Module with"
            " encode and decode"
        )
    for method in ("encode", "decode"):
        if not callable(getattr(model, method, None)):
            raise PluginError(f"{name}: {type(model).__name__} has no method {method!r}; expected encode and decode")
    return model


@attrs.frozen(kw_only=True)
class Probe:
    """What building a model and trying it shows.

    Attributes:
        info: shape facts.
        num_parameters: parameters of the model.
        random_weights: which weights differ when it is built again; empty for none.
    """

    info: AutoencoderInfo
    num_parameters: int
    random_weights: str


def probe_of(spec: PythonAutoencoderSpec) -> Probe:
    """What probing finds; built and tried once for the same code and options. Raises PluginError."""
    code = contents(spec.code()[0]).digest
    key = json.dumps([code, spec.target, spec.options, spec.probe], sort_keys=True, default=str)
    if key not in _FOUND:
        _FOUND[key] = _probe(spec)
    return _FOUND[key]


_FOUND: dict[str, Probe] = {}


def _probe(spec: PythonAutoencoderSpec) -> Probe:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = made_by(spec, BuildContext())
        torch.manual_seed(1)
        again = made_by(spec, BuildContext()).state_dict()
    own = model.info if isinstance(model, Autoencoder) else None
    return Probe(
        info=own or probed(model, f"autoencoder {spec.target!r}", spec.probe),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        random_weights=_what_differs(model.state_dict(), again),
    )


def _what_differs(weights: Mapping[str, Tensor], again: Mapping[str, Tensor]) -> str:
    """Which weights are drawn: those that two calls give different values; constants, such as zeros, say nothing."""
    filled = {name: weight.flatten() for name, weight in weights.items() if weight.numel()}
    varied = {name for name, weight in filled.items() if bool((weight != weight[0]).any())}
    drawn = {name for name in varied if name not in again or not torch.equal(weights[name], again[name])}
    if not drawn:
        return ""
    return "all weights" if drawn == varied else f"{len(drawn)} of {len(weights)} weight tensors"


def described(info: AutoencoderInfo) -> str:
    """Shape facts in a line."""
    frames = f" t{info.temporal_factor}" if info.takes_clips else ""
    channels = f"{info.image_channels} channel{'s' if info.image_channels > 1 else ''}"
    what = "clips" if info.takes_clips else "images"
    return f"{what} of {channels}, f{info.spatial_factor}{frames}, {info.latent_channels} latent channels"


def probed(model: nn.Module, name: str, shape: tuple[int, ...] | None = None) -> AutoencoderInfo:
    """Encodes and decodes small inputs until one fits: images, then clips.

    Args:
        model: a module with ``encode`` and ``decode``.
        name: what messages call it.
        shape: the shape ``(c, *t, h, w)`` of the one input to try; default: several.

    Raises:
        PluginError: none fits; says why, for images and for clips.
    """
    reasons: dict[str, str] = {}
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        for tried in [shape] if shape is not None else _shapes():
            try:
                with torch.no_grad(), torch.random.fork_rng(devices=[]):
                    return _tried(model, name, tried)
            except Exception as error:  # noqa: BLE001 - code of others fails in any way on what it does not expect
                message = str(error).strip().splitlines() or [type(error).__name__]
                reasons.setdefault("clips" if len(tried) == 4 else "images", f"{tried!r}: {message[0]}")
    finally:
        for module, training in modes.items():
            module.training = training
    listed = "; ".join(f"{what} of shape {reason}" for what, reason in reasons.items())
    raise PluginError(
        f"{name} encodes and decodes none of the inputs that were tried: {listed}; give the shape of one that it takes"
        " as probe: [c, h, w] or [c, t, h, w]"
    )


def _shapes() -> Iterator[tuple[int, ...]]:
    for channels in _CHANNELS:
        yield from ((channels, side, side) for side in _SIDES)
    for channels in _CHANNELS:
        yield from ((channels, _FRAMES, side, side) for side in _SIDES)


def _tried(model: Any, name: str, shape: tuple[int, ...]) -> AutoencoderInfo:
    """Facts from one input. Raises what the model raises, and ValueError or PluginError for what does not fit."""
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    like = torch.zeros(()) if weight is None else weight.detach()
    images = torch.linspace(-1, 1, _BATCH * int(torch.tensor(shape).prod()), dtype=like.dtype, device=like.device)
    images = images.view(_BATCH, *shape)
    latents = posterior_of(model.encode(images), name).mean
    if latents.ndim != images.ndim or len(latents) != _BATCH:
        raise ValueError(
            f"encode returned shape {tuple(latents.shape)!r} for {tuple(images.shape)!r}; expected (b, c, h, w) for"
            " images, (b, c, t, h, w) for clips"
        )
    sides = {_factor(image, latent) for image, latent in zip(images.shape[-2:], latents.shape[-2:], strict=True)}
    if len(sides) != 1:
        raise ValueError(f"encode gives {tuple(latents.shape)!r} for {tuple(images.shape)!r}: two factors, {sides}")
    frames = 1 if len(shape) == 3 else _temporal_factor(shape[1], latents.shape[2])
    info = AutoencoderInfo(
        latent_channels=latents.shape[1],
        spatial_factor=sides.pop(),
        temporal_factor=frames,
        image_channels=shape[0],
        takes_clips=len(shape) == 4,
    )
    decoded = images_of(model.decode(latents), name)
    if decoded.shape != images.shape:
        raise ValueError(
            f"decode returned shape {tuple(decoded.shape)!r} for latents {tuple(latents.shape)!r}; expected"
            f" {tuple(images.shape)!r}"
        )
    return info


def _factor(pixels: int, latents: int) -> int:
    if latents < 1 or pixels % latents:
        raise ValueError(f"{pixels} pixels become {latents}, which is not a whole factor")
    return pixels // latents


def _temporal_factor(frames: int, latents: int) -> int:
    if latents == frames:
        return 1
    if latents < 2 or (frames - 1) % (latents - 1):
        raise ValueError(
            f"a clip of {frames} frames becomes {latents} latent frames; expected 1 + n of a clip of 1 + n * factor"
        )
    return (frames - 1) // (latents - 1)


def _article(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"
