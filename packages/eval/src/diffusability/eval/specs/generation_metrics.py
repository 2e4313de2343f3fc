"""What readers see of distances between sets of images. Free of torch."""

from collections.abc import Mapping

import attrs

from diffusability.core.specs.metric_info import Judged, MetricInfo


def in_words(features: str) -> str:
    """A label of features as readers see it."""
    return features.replace("_", " ")


def info_with_features(metrics: Mapping[str, MetricInfo], name: str, features: str) -> MetricInfo | None:
    """A metric that is called ``BASE_FEATURES`` because its features are not those that ``BASE`` alone stands for."""
    info = metrics.get(name.removesuffix(f"_{features}"))
    if info is None:
        return None
    meaning = f"{info.meaning.split(', by ')[0]}, by {in_words(features)} features"
    return attrs.evolve(info, label=f"{info.label} ({in_words(features)})", meaning=meaning, headline=None)


def _samples(label: str, meaning: str, rank: float, headline: float | None = None) -> MetricInfo:
    return MetricInfo(label=label, meaning=meaning, judges="samples", group="samples", rank=rank, headline=headline)


KID = {"kid": _samples("KID", "unbiased kernel distance, by Inception features", 10)}
CMMD = {"cmmd": _samples("CMMD", "Gaussian kernel distance, by CLIP features", 11)}
PRECISION_RECALL = {
    "precision": _samples("Precision", "share of generated images among real ones, by Inception features", 12),
    "recall": _samples("Recall", "share of real images among generated ones, by Inception features", 13),
}
INCEPTION_SCORE = {"inception_score": _samples("IS", "Inception score of generated images, by Inception logits", 14)}
SLICED_WASSERSTEIN = {
    "sliced_wasserstein": _samples(
        "Sliced W.", "sliced Wasserstein distance of generated from real images", 15, headline=6
    )
}


def sliced_wasserstein_of(side: str) -> MetricInfo:
    """The distance at one scale of the pyramid: images of ``side`` pixels."""
    return _samples(f"Sliced W., {side} px", f"sliced Wasserstein distance at a side of {side} pixels", 16)


_FDR = "Frechet distance from training images, over that of held-out real images; 1 is as close as real images are"
FDR = {"fdr": _samples("FDr", f"{_FDR}; mean over feature networks", 6, headline=3)}


def fdr_of(features: str) -> MetricInfo:
    """The ratio in the features of one network."""
    return _samples(f"FDr ({in_words(features)})", f"{_FDR}, by {in_words(features)} features", 7)


#: Frechet distances with names of their own: label, features, rank, and places in the headline of generated images and
#: of reconstructions.
_FRECHET: dict[str, tuple[str, str, float, float | None, float | None]] = {
    "fdd": ("FDD", "DINOv2", 0, 1, 3),
    "fid": ("FID", "Inception", 1, 2, 2),
    "sfid": ("sFID", "spatial Inception", 2, None, None),
    "fvd": ("FVD", "I3D", 3, 4, None),
    "frechet_efficientnet_lite0": ("Frechet EN-Lite0", "EfficientNet-Lite0", 4, 5, 4),
    "frechet_efficientnet_lite1": ("Frechet EN-Lite1", "EfficientNet-Lite1", 4.1, None, None),
    "frechet_efficientnet_lite2": ("Frechet EN-Lite2", "EfficientNet-Lite2", 4.2, None, None),
}
#: Of these, names to which "r" is put in front for reconstructions.
ACRONYMS = frozenset({"fid", "sfid", "fdd", "fvd"})


def prefixed(prefix: str, name: str) -> str:
    """What a Frechet distance is called of reconstructions ("r"), of interpolations ("i") or of samples ("")."""
    return f"{prefix}{name}" if name in ACRONYMS or not prefix else f"{prefix}_{name}"


#: What follows the name of a distance of samples where it is that of reconstructions, or the difference of both.
FLOOR, ABOVE_FLOOR = "_floor", "_above_floor"


def floor_info(distance: MetricInfo, name: str) -> MetricInfo:
    """The floor of a distance of generated images, and how far above it they are."""
    if name.endswith(ABOVE_FLOOR):
        label, meaning = "above floor", f"{distance.meaning}, less that of reconstructions of the same real images"
    else:
        label, meaning = "floor", f"{distance.meaning}, of reconstructions of the same real images in their place"
    extra = 0.02 if name.endswith(ABOVE_FLOOR) else 0.01
    return attrs.evolve(
        distance, label=f"{distance.label} {label}", meaning=meaning, rank=distance.order + extra, headline=None
    )


IFID_MEANING = "Frechet distance of images decoded half way between neighbouring latents"
IFID = {
    "ifid": MetricInfo(
        label="iFID",
        meaning=f"{IFID_MEANING}, by Inception features",
        judges="latents",
        group="latents",
        rank=109,
        headline=4,
    )
}


def ifid_of(features: str) -> MetricInfo:
    """The same in other features."""
    return attrs.evolve(
        IFID["ifid"], label=f"i-Frechet {features}", meaning=f"{IFID_MEANING}, by {features} features", rank=109.5
    )


def frechet_info(label: str, features: str, judges: Judged, rank: float, headline: float | None = None) -> MetricInfo:
    """A Frechet distance of generated images, or of reconstructions, in the features of a network."""
    samples = judges == "samples"
    prefix = "" if samples else "r" if label.upper().endswith(("FID", "FDD", "FVD")) else "r-"
    return MetricInfo(
        label=f"{prefix}{label}",
        meaning=f"Frechet distance of {features} features" + ("" if samples else ", reconstructions"),
        judges=judges,
        group="samples" if samples else "reconstruction",
        rank=rank if samples else 110 + rank,
        headline=headline,
    )


FRECHET = {
    name: frechet_info(label, features, "samples", rank, headline)
    for name, (label, features, rank, headline, _) in _FRECHET.items()
}
RFID = {
    prefixed("r", name): frechet_info(label, features, "reconstruction", rank, headline)
    for name, (label, features, rank, _, headline) in _FRECHET.items()
}
