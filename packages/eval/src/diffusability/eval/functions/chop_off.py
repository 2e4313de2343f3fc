"""What is left of images when their latents lose high frequencies."""

from collections.abc import Sequence
from typing import Any

import attrs

from diffusability.core.contracts.evaluator import Curve
from diffusability.core.facade.image_sets import ValueRange
from diffusability.core.facade.scoring import score


@attrs.frozen(kw_only=True, eq=False)
class ChopOffCurves:
    """Quality against the share of DCT coefficients that is kept.

    Attributes:
        latents: PSNR in dB of what is decoded from chopped latents.
        images: PSNR in dB of images that are chopped themselves, by the same rule.
        area: area under ``latents`` over shares from 0 to 1, in dB.
        images_area: the same under ``images``.
    """

    latents: Curve
    images: Curve
    area: float
    images_area: float


def chop_off(
    autoencoder: Any,
    images: Any,
    *,
    shares: Sequence[float] | None = None,
    block_size: int = 8,
    num: int = 256,
    resolution: int | None = None,
    value_range: ValueRange | None = None,
    batch_size: int = 8,
    precision: str = "auto",
) -> ChopOffCurves:
    """Chops high frequencies off the latents and decodes: the curves of the evaluator ``chop-off``.

    Args:
        autoencoder: whatever ``load_autoencoder`` takes.
        images: whatever ``score`` takes.
        shares: shares of the coefficients to keep, 1 among them; default: those of the evaluator.
        block_size: side of a block of latents.
        num: images, at most.
        resolution: side in pixels of pictures and files.
        value_range: values of black and white in ``images``.
        batch_size: images encoded at once.
        precision: of encoding and decoding.

    Raises:
        DataError: the images are of an unknown form or range, or latents are smaller than 4x4.
        SpecError: shares or block are not such.
    """
    settings: dict[str, Any] = {"kind": "chop-off", "block_size": block_size}
    if shares is not None:
        settings["shares"] = list(shares)
    card = score(
        autoencoder,
        images,
        evaluators=[settings],
        num=num,
        resolution=resolution,
        value_range=value_range,
        batch_size=batch_size,
        precision=precision,
    )
    return ChopOffCurves(
        latents=card.curves["chop_off_curve"],
        images=card.curves["rgb_chop_off_curve"],
        area=card["chop_off_area"],
        images_area=card["rgb_chop_off_area"],
    )
