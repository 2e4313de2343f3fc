"""Which parameters of an autoencoder are trained, and which stay as they are."""

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal

from torch import nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.errors import SpecError

TrainedPart = Literal["all", "encoder", "decoder"]


def freeze_all_but(autoencoder: Autoencoder, part: TrainedPart) -> None:
    """Freezes what does not belong to the encoder, or to the decoder.

    Raises:
        SpecError: parameters belong to neither; named.
    """
    if part == "all":
        return
    neither = [name for name, _ in autoencoder.named_parameters() if autoencoder.part_of(name) is None]
    if neither:
        raise SpecError(
            f"train is {part!r}, and these parameters of {type(autoencoder).__name__} belong to neither encoder nor"
            f" decoder: {', '.join(neither[:5])}; expected train: all, with 'freeze' patterns"
        )
    for name, parameter in autoencoder.named_parameters():
        if autoencoder.part_of(name) != part:
            parameter.requires_grad_(False)


def freeze_matching(module: nn.Module, patterns: Sequence[str]) -> None:
    """Freezes the modules and parameters whose dotted names match one of the patterns (``*`` crosses dots).

    Raises:
        SpecError: a pattern matches nothing; names what is near.
    """
    modules = {name: list(child.parameters()) for name, child in module.named_modules() if name}
    named = {**modules, **{name: [parameter] for name, parameter in module.named_parameters()}}
    for pattern in patterns:
        matches = [name for name in named if fnmatchcase(name, pattern)]
        if not matches:
            near = get_close_matches(pattern, list(named), n=3, cutoff=0.5)
            tops = ", ".join(name for name, _ in module.named_children())
            raise SpecError(
                f"freeze pattern {pattern!r} matches no module or parameter of {type(module).__name__};"
                + (f" did you mean {' or '.join(map(repr, near))}?" if near else f" at its top are {tops}")
            )
        for name in matches:
            for parameter in named[name]:
                parameter.requires_grad_(False)


def freeze_decoder_tail(autoencoder: Autoencoder, wanted: bool | None, is_pretrained: bool) -> None:
    """Freezes the decoder's last normalisation and convolution: as ``wanted``, by default in pretrained autoencoders.

    Raises:
        SpecError: it is wanted, and the autoencoder names no tail.
    """
    tail = tuple(autoencoder.decoder_tail())
    if wanted and not tail:
        raise SpecError(
            f"freeze_decoder_tail is True, and {type(autoencoder).__name__} names no decoder tail;"
            " expected an autoencoder with a decoder_tail()"
        )
    if wanted or (wanted is None and is_pretrained):
        for module in tail:
            module.requires_grad_(False)


def require_trained(autoencoder: Autoencoder) -> None:
    """Raises SpecError when nothing is left to train."""
    if not any(parameter.requires_grad for parameter in autoencoder.parameters()):
        raise SpecError(f"all parameters of {type(autoencoder).__name__} are frozen, so there is nothing to train")
