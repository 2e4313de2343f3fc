"""Which files perceptual distances are made of, and how small images may be. Free of torch."""

from pathlib import Path

from diffusability.core.published_weights import PublishedWeights, packaged_file

#: torchvision's ImageNet classifiers, of which LPIPS uses the convolutions.
TRUNK_WEIGHTS = {
    "alex": PublishedWeights(
        purpose="lpips with network 'alex'",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        size_mib=233,
    ),
    "vgg": PublishedWeights(
        purpose="lpips with network 'vgg'",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        size_mib=528,
    ),
}

_SMALLEST_SIDE = {("lpips", "alex"): 31, ("lpips", "vgg"): 16, ("st-lpips", "alex"): 21, ("st-lpips", "vgg"): 18}


def smallest_side(kind: str, network: str) -> int:
    """Pixels of the shorter side of the smallest images that a network can work on."""
    return _SMALLEST_SIDE[kind, network]


def lpips_files(network: str, weights: Path | None = None) -> tuple[Path, Path]:
    """The weights of the trunk (the given file, or torchvision's in torch.hub's cache) and of LPIPS's own layers.

    Raises:
        ValueError: one of them is missing.
    """
    heads = packaged_file("lpips", f"weights/v0.1/{network}.pth", "lpips", "lpips")
    return TRUNK_WEIGHTS[network].locate(weights), heads


def st_lpips_file(network: str) -> Path:
    """The weights of ST-LPIPS in the package that ships them.

    Raises:
        ValueError: the package is not installed.
    """
    return packaged_file("stlpips_pytorch", f"weights/vST0.0/{network}_shift_tolerant.pth", "st-lpips", "st-lpips")
