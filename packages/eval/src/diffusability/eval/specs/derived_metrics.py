"""Metrics that are another one of something else: of raw latents, of the images themselves. Free of torch."""

from collections.abc import Mapping

import attrs

from diffusability.core.specs.metric_info import MetricInfo

#: Ranks of the groups that scorecards list last.
_OF_RAW_LATENTS, _OF_IMAGES = 800, 900


def with_raw(metrics: Mapping[str, MetricInfo]) -> dict[str, MetricInfo]:
    """These metrics of standardised latents, and each with the suffix ``_raw``, of latents as they are."""
    return {**metrics, **{f"{name}_raw": _of_raw_latents(info) for name, info in metrics.items()}}


def with_images(metrics: Mapping[str, MetricInfo], images: str) -> dict[str, MetricInfo]:
    """These metrics of latents, and each with the prefix ``rgb_``, of the images that ``of`` names."""
    return {**metrics, **{f"rgb_{name}": _of_images(info, images) for name, info in metrics.items()}}


def _of_raw_latents(info: MetricInfo) -> MetricInfo:
    return attrs.evolve(
        info,
        label=f"{info.label} (raw latents)",
        meaning=f"{info.meaning}, of raw latents",
        group="of raw latents",
        rank=_OF_RAW_LATENTS + info.order,
        headline=None,
    )


def _of_images(info: MetricInfo, images: str) -> MetricInfo:
    return attrs.evolve(
        info,
        label=f"RGB {info.label}",
        meaning=f"{info.meaning}, of {images}",
        judges=None,
        group="of the images",
        rank=_OF_IMAGES + info.order,
        headline=None,
    )
