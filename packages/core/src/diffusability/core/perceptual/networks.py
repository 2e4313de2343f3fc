"""LPIPS and ST-LPIPS with their published weights."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusability.core.errors import CheckpointError
from diffusability.core.perceptual.distance import PerceptualDistance
from diffusability.core.perceptual.sources import lpips_files, smallest_side, st_lpips_file
from diffusability.core.perceptual.trunks import CHANNELS, PerceptualNetwork, trunk
from diffusability.core.reading import reason_of


def _weights_of(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for files that are cut short or no weights
        raise CheckpointError(f"weight file {str(path)!r} cannot be read: {reason_of(error, path)}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"weight file {str(path)!r} holds a {type(content).__name__}; expected named tensors")
    return content


def _filled(
    parts: nn.ModuleList, tensors: Iterable[tuple[str, Tensor]], heads: Iterable[tuple[str, Tensor]], path: Path
) -> tuple[nn.ModuleList, nn.ParameterList]:
    """Puts convolutions, in the order of the file, and the weights of the heads into place."""
    given = list(tensors)
    wanted = [
        parameter
        for module in parts.modules()
        if isinstance(module, nn.Conv2d)
        for parameter in module._parameters.values()
    ]
    shapes = [tuple(tensor.shape) for _, tensor in given]
    expected = [tuple(parameter.shape) for parameter in wanted if parameter is not None]
    if shapes != expected:
        raise CheckpointError(f"the convolutions in {str(path)!r} have shapes {shapes}; expected {expected}")
    with torch.no_grad():
        for parameter, (_, tensor) in zip(wanted, given, strict=True):
            assert parameter is not None
            parameter.copy_(tensor)
    return parts, nn.ParameterList(tensor.float().flatten() for _, tensor in heads)


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # a cached inference tensor could not be used in later gradients
def lpips_network(network: PerceptualNetwork = "alex", weights: Path | None = None) -> PerceptualDistance:
    """LPIPS 0.1 on torchvision's AlexNet or VGG16. ``weights``: the trunk's file; default: torch.hub's cache.

    The module is shared by all callers: it is fixed, and moves to the device it was last used on.

    Raises:
        ValueError: a file is missing; says where to get it and where to put it.
        CheckpointError: a file cannot be read or holds something else.
    """
    trunk_path, heads_path = lpips_files(network, weights)
    convolutions = ((name, value) for name, value in _weights_of(trunk_path).items() if name.startswith("features."))
    parts, heads = _filled(trunk(network), convolutions, _weights_of(heads_path).items(), trunk_path)
    return PerceptualDistance(parts, heads, f"lpips ({network})", smallest_side("lpips", network))


def untrained_network(network: PerceptualNetwork, shift_tolerant: bool) -> PerceptualDistance:
    """A network of the same layers as LPIPS, or ST-LPIPS, with random weights: of use for what it costs alone."""
    heads = nn.ParameterList(torch.ones(channels) for channels in CHANNELS[network])
    kind = "st-lpips" if shift_tolerant else "lpips"
    return PerceptualDistance(
        trunk(network, shift_tolerant), heads, f"untrained {kind} ({network})", smallest_side(kind, network)
    )


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # a cached inference tensor could not be used in later gradients
def st_lpips_network(network: PerceptualNetwork = "alex") -> PerceptualDistance:
    """ST-LPIPS (Ghildyal & Liu, ECCV 2022) with the weights that the package ``stlpips-pytorch`` ships.

    It is a metric of its own: its numbers are not LPIPS's.

    Raises:
        ValueError: the package is not installed; names the extra.
        CheckpointError: its file cannot be read.
    """
    path = st_lpips_file(network)
    content = _weights_of(path)
    convolutions = ((name, value) for name, value in content.items() if name.startswith("net.") and "filt" not in name)
    heads = ((name, value) for name, value in content.items() if name.startswith("lin"))
    parts, weights = _filled(trunk(network, shift_tolerant=True), convolutions, heads, path)
    return PerceptualDistance(parts, weights, f"st-lpips ({network})", smallest_side("st-lpips", network))
