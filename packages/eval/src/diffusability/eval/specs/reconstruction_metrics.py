"""What readers see of the metrics of reconstructions. Free of torch."""

from diffusability.core.specs.metric_info import MetricInfo


def _info(label: str, meaning: str, rank: float, headline: float | None = None) -> MetricInfo:
    return MetricInfo(
        label=label, meaning=meaning, judges="reconstruction", group="reconstruction", rank=rank, headline=headline
    )


PSNR = {"psnr": _info("PSNR", "peak signal-to-noise ratio of reconstructions", 100, headline=1)}
WORST_PSNR = {"worst_psnr": _info("Worst PSNR", "PSNR of the image that is reconstructed worst", 101)}
SSIM = {"ssim": _info("SSIM", "structural similarity of reconstructions", 102, headline=7)}
MS_SSIM = {"ms_ssim": _info("MS-SSIM", "structural similarity of reconstructions at five scales", 103)}
LPIPS = {
    "lpips": _info("LPIPS", "learned perceptual distance of reconstructions", 104, headline=5),
    "lpips_vgg": _info("LPIPS (VGG16)", "learned perceptual distance of reconstructions, by VGG16", 105),
}
ST_LPIPS = {
    "st_lpips": _info("ST-LPIPS", "shift-tolerant learned perceptual distance of reconstructions", 106, headline=6),
    "st_lpips_vgg": _info(
        "ST-LPIPS (VGG16)", "shift-tolerant learned perceptual distance of reconstructions, by VGG16", 107
    ),
}
KL_PER_DIM = {
    "kl_per_dim": _info("KL / dim", "KL divergence of the posterior from the prior, mean over dimensions", 108)
}
