"""What metrics are called in tables and figures, and what they mean."""

import attrs


@attrs.frozen
class MetricName:
    """The name that readers see and one line of explanation."""

    label: str
    meaning: str = ""


KNOWN_METRICS: dict[str, MetricName] = {
    "psnr": MetricName("PSNR", "peak signal-to-noise ratio of reconstructions"),
    "ssim": MetricName("SSIM", "structural similarity of reconstructions"),
    "ms_ssim": MetricName("MS-SSIM", "structural similarity of reconstructions at five scales"),
    "lpips": MetricName("LPIPS", "learned perceptual distance of reconstructions"),
    "st_lpips": MetricName("ST-LPIPS", "shift-tolerant learned perceptual distance of reconstructions"),
    "kl_per_dim": MetricName("KL / dim", "KL divergence of the posterior from the prior, mean over dimensions"),
    "high_frequency_share": MetricName("HF share", "share of the AC energy of 8x8 block DCTs at u + v >= 8"),
    "spectral_gap": MetricName("Spectral gap", "log amplitude of latents minus that of pooled RGB; 0 is RGB-like"),
    "chop_off_area": MetricName("Chop-off area", "area under PSNR against the share of DCT coefficients kept"),
    "sliced_wasserstein": MetricName("Sliced W.", "sliced Wasserstein distance of generated from real images"),
    "fid": MetricName("FID", "Frechet distance of Inception features"),
    "rfid": MetricName("rFID", "Frechet distance of Inception features, reconstructions"),
    "gfid": MetricName("gFID", "Frechet distance of Inception features, generated images"),
    "sfid": MetricName("sFID", "Frechet distance of spatial Inception features"),
    "frechet_efficientnet_lite0": MetricName("Frechet EN-Lite0", "Frechet distance of EfficientNet-Lite0 features"),
    "r_frechet_efficientnet_lite0": MetricName(
        "r-Frechet EN-Lite0", "Frechet distance of EfficientNet-Lite0 features, reconstructions"
    ),
    "kid": MetricName("KID", "unbiased kernel distance of Inception features"),
    "cmmd": MetricName("CMMD", "Gaussian kernel distance of CLIP features"),
    "precision": MetricName("Precision", "share of generated images among real ones, Inception features"),
    "recall": MetricName("Recall", "share of real images among generated ones, Inception features"),
    "inception_score": MetricName("IS", "Inception score of generated images"),
    "channel_std_ratio": MetricName("Channel std ratio", "largest over smallest standard deviation of a channel"),
    "channel_kurtosis": MetricName("Channel kurtosis", "mean excess kurtosis of the latents' channels"),
    "channel_correlation": MetricName("Channel corr.", "mean absolute correlation of pairs of latent channels"),
    "fdd": MetricName("FDD", "Frechet distance of DINOv2 features"),
    "rfdd": MetricName("rFDD", "Frechet distance of DINOv2 features, reconstructions"),
    "fvd": MetricName("FVD", "Frechet distance of I3D features of clips"),
    "viv": MetricName("VIV", "velocity irreducible variance: what no denoiser can predict, per dimension"),
    "viv_unconditional": MetricName("VIV, no classes", "velocity irreducible variance of all classes as one Gaussian"),
    "trajectory_straightness": MetricName("Straightness", "deviation of the flow from straight lines; 0 is straight"),
    "lds": MetricName("LDS", "cosine similarity of neighbouring latent pixels minus that of distant ones"),
    "cds": MetricName("CDS", "decay of the cosine similarity of latent pixels with their distance"),
    "srss": MetricName("SRSS", "similarity within the foreground minus that to the far background"),
    "density_cv": MetricName("Density CV", "unevenness of the latents' density in a t-SNE plane"),
    "density_gini": MetricName("Density Gini", "unevenness of the latents' density in a t-SNE plane"),
    "density_entropy": MetricName("Density entropy", "evenness of the latents' density in a t-SNE plane, 1 is even"),
    "spectral_slope": MetricName("Spectral slope", "exponent of amplitude against radial frequency; photographs: -1"),
    "scale_equivariance_error": MetricName("Scale eq. error", "distance of Enc(down x) to down Enc(x), relative"),
    "rotation_equivariance_error": MetricName("Rotation eq. error", "the same of a rotation by 90 degrees"),
    "flip_equivariance_error": MetricName("Flip eq. error", "the same of a mirror image"),
    "shift_equivariance_error": MetricName("Shift eq. error", "the same of a shift by one latent pixel"),
    "interpolation_smoothness": MetricName("Interpolation", "directness of the decoded way between two latents"),
    "worst_psnr": MetricName("Worst PSNR", "PSNR of the image that is reconstructed worst"),
    "sec": MetricName("SEC", "share of full-map DCT energy at high frequencies"),
    "lnc": MetricName("LNC", "share of nearest neighbours with the same label"),
    "denoising_error": MetricName("Denoising error", "relative error of the denoised data, mean over noise levels"),
    "denoising_error_high": MetricName("Denoising error, HF", "the same at u + v >= 8 of 8x8 block DCTs"),
    "denoising_excess": MetricName("Denoising excess", "that error over the best linear denoiser's of equal spectrum"),
    "cumulative_error": MetricName(
        "Cumulative error", "divergence of samples from data, Gaussians of DCT coefficients"
    ),
    "error_amplification": MetricName(
        "Error amplification", "growth of single steps' errors along the sampler; at most 1 if none grows"
    ),
    "denoising_error_curve": MetricName("Denoising error by time"),
    "resolved_time_curve": MetricName("Which frequencies are resolved when"),
    "cumulative_error_curve": MetricName("Cumulative error along the sampler"),
    "modular_error_curve": MetricName("Error of each sampling step alone"),
    "latent_spectrum_curve": MetricName("Spectrum of the latents"),
    "chop_off_curve": MetricName("High-frequency chop-off"),
    "lr": MetricName("learning rate"),
    "grad_norm": MetricName("gradient norm"),
    "samples_per_s": MetricName("samples per second"),
    "step_time_s": MetricName("seconds per step"),
}


#: Metrics whose names say the features when these are not the usual ones.
OF_FEATURES = ("kid", "cmmd", "precision", "recall", "inception_score")


def metric_label(name: str) -> str:
    """The name to show for a stable name. Of an unknown metric it is made from the stable name."""
    if name in KNOWN_METRICS:
        return KNOWN_METRICS[name].label
    if name.endswith("_raw") and not name.removesuffix("_raw").endswith("_curve"):
        return f"{metric_label(name.removesuffix('_raw'))} (raw latents)"
    if name.removeprefix("rgb_") in KNOWN_METRICS:
        return f"RGB {KNOWN_METRICS[name.removeprefix('rgb_')].label}"
    for base in OF_FEATURES:
        if name.startswith(f"{base}_") and not name.endswith("_curve"):
            features = name.removeprefix(f"{base}_").replace("_", " ")
            return f"{KNOWN_METRICS[base].label} ({features})"
    words = name.removesuffix("_curve").replace("_", " ").strip() or name
    return words[:1].upper() + words[1:]


def metric_meaning(name: str) -> str:
    """One line that explains a metric; empty for an unknown one."""
    return KNOWN_METRICS[name].meaning if name in KNOWN_METRICS else ""
