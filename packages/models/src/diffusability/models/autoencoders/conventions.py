"""What autoencoders of others return from ``encode`` and ``decode``, read as a posterior and as images."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffusability.core.contracts.posterior import Posterior
from diffusability.core.errors import PluginError

_ENCODED = (
    "a tensor, (mean, logvar), a distribution with mode() and logvar, std or variance, or an output class of diffusers"
)
_DECODED = "a tensor of images, or an output class of diffusers"


def posterior_of(encoded: Any, name: str) -> Posterior:
    """The posterior in the return value of a module's ``encode``.

    A tensor is a point; a pair of equal shapes mean and log variance; of a distribution the mode and its variance; of
    an output class, or a mapping, what is under ``latent_dist``, ``latents``, ``latent`` or ``mean`` and ``logvar``.

    Raises:
        PluginError: it is none of these; names its type.
    """
    if isinstance(encoded, Posterior):
        return encoded
    if isinstance(encoded, Tensor):
        return Posterior(mean=encoded)
    if isinstance(encoded, tuple | list):
        if len(encoded) == 1:
            return posterior_of(encoded[0], name)
        tensors = [item for item in encoded if isinstance(item, Tensor)]
        if len(encoded) == 2 and len(tensors) == 2 and tensors[0].shape == tensors[1].shape:
            return Posterior(mean=tensors[0], logvar=tensors[1])
        raise _unknown("encode", encoded, _ENCODED, name)
    for part in ("latent_dist", "latents", "latent"):
        inner = _part(encoded, part)
        if inner is not None:
            return posterior_of(inner, name)
    mean = _mode(encoded)
    if mean is None:
        raise _unknown("encode", encoded, _ENCODED, name)
    logvar = _log_variance(encoded)
    return Posterior(mean=mean, logvar=None if logvar is None else logvar.expand_as(mean))


def images_of(decoded: Any, name: str) -> Tensor:
    """The images in the return value of ``decode``. Raises PluginError with its type when it holds none."""
    if isinstance(decoded, Tensor):
        return decoded
    if isinstance(decoded, tuple | list) and len(decoded) == 1:
        return images_of(decoded[0], name)
    sample = _part(decoded, "sample")
    if isinstance(sample, Tensor):
        return sample
    raise _unknown("decode", decoded, _DECODED, name)


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _mode(distribution: Any) -> Tensor | None:
    for name in ("mode", "mean"):
        value = _part(distribution, name)
        if callable(value) and not isinstance(value, Tensor):
            value = value()
        if isinstance(value, Tensor):
            return value
    return None


def _log_variance(distribution: Any) -> Tensor | None:
    """None for a point: what has no spread, or says that it is deterministic."""
    if _part(distribution, "deterministic") is True:
        return None
    logvar = _part(distribution, "logvar")
    if isinstance(logvar, Tensor):
        return logvar
    for name, power in (("variance", 1), ("var", 1), ("stddev", 2), ("std", 2)):
        spread = _part(distribution, name)
        if isinstance(spread, Tensor):
            return power * torch.log(spread)
    return None


def _unknown(method: str, value: Any, expected: str, name: str) -> PluginError:
    return PluginError(f"{name}: {method} returned {described(value)}; expected {expected}")


def described(value: Any) -> str:
    """A value's type, with the types of what it holds."""
    kind = type(value).__name__
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)!r}"
    if isinstance(value, tuple | list):
        return f"a {kind} of {len(value)}: {', '.join(map(described, value))}"
    if isinstance(value, Mapping):
        return f"a {kind} with the keys {', '.join(map(repr, value)) or '(none)'}"
    return "None" if value is None else f"an object of type {kind}"
