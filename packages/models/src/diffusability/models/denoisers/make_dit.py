"""Diffusion transformers for one's own loop."""

from collections.abc import Sequence
from typing import Any

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.errors import SpecError
from diffusability.core.facade.checked import checked
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.specs.denoisers.dit import DiTSpec


def DiT(  # noqa: N802 - reads like the class that it makes
    latent_shape: Sequence[int], size: str = "S/2", *, num_classes: int | None = None, **options: Any
) -> Denoiser:
    """A diffusion transformer (Peebles & Xie 2023): ``model(latents, time, labels)`` with time in [0, 1].

    Args:
        latent_shape: ``(c, h, w)``, or ``(c, t, h, w)`` of clips.
        size: ``Ti``, ``S``, ``B``, ``L`` or ``XL``, a slash, and the side of a patch in latent pixels.
        num_classes: class labels; the label ``num_classes`` stands for "no class". None: unconditional.
        options: further fields of the kind ``dit``, such as ``positions="rope"``, ``norm="rms"`` or ``qk_norm=True``.

    Raises:
        SpecError: an option is unknown or wrong, or the latents cannot be cut into patches.
    """
    spec = checked(DiTSpec, {"kind": "dit", "size": size, **options}, "DiT")
    try:
        spec.architecture(tuple(latent_shape), num_classes)
    except ValueError as error:
        raise SpecError(str(error)) from None
    made: Denoiser = spec.build(BuildContext(latent_shape=tuple(latent_shape), num_classes=num_classes))
    return made
