"""Autoencoders, denoisers, training objectives and samplers.

Specs name them by kind (``diffusability.models.specs``); importing this package does not import torch.
"""

from typing import TYPE_CHECKING

from diffusability.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from diffusability.models.autoencoders.wrapped import wrap_autoencoder
    from diffusability.models.denoisers.make_dit import DiT

_HOMES = {"autoencoders.wrapped": ("wrap_autoencoder",), "denoisers.make_dit": ("DiT",)}
__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
