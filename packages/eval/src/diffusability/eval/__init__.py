"""Evaluators of autoencoders and of latent diffusion models.

``specs`` holds what a YAML file configures and needs no torch; ``functions`` holds single measures for notebooks and
loops; every other module holds an evaluator, or the maths of one measure as functions on tensors. Importing this
package does not import torch.
"""

from typing import TYPE_CHECKING

from diffusability.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from diffusability.eval.functions.chop_off import ChopOffCurves, chop_off
    from diffusability.eval.functions.frechet import frechet
    from diffusability.eval.functions.latent_spectrum import LatentSpectrum, latent_spectrum

_HOMES = {
    "functions.chop_off": ("ChopOffCurves", "chop_off"),
    "functions.frechet": ("frechet",),
    "functions.latent_spectrum": ("LatentSpectrum", "latent_spectrum"),
}
__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
