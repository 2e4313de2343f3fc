"""What readers see of the metrics of spectra. Free of torch."""

from diffusability.core.specs.metric_info import MetricInfo
from diffusability.eval.specs.derived_metrics import with_images, with_raw


def _spectrum(label: str, meaning: str, rank: float, headline: float | None = None) -> MetricInfo:
    return MetricInfo(label=label, meaning=meaning, judges="latents", group="spectrum", rank=rank, headline=headline)


def _channels(label: str, meaning: str, rank: float) -> MetricInfo:
    return MetricInfo(label=label, meaning=meaning, judges="latents", group="channels", rank=rank)


def _denoiser(label: str, meaning: str, rank: float) -> MetricInfo:
    return MetricInfo(label=label, meaning=meaning, group="denoiser", rank=rank)


def _reference(label: str, metric: str, rank: float) -> MetricInfo:
    return MetricInfo(label=label, reference_of=metric, rank=rank)


_POOLED = "RGB pooled to the latents' size"

DCT_SPECTRUM = {
    **with_images(
        {
            "high_frequency_share": _spectrum(
                "HF share", "share of the AC energy of 8x8 block DCTs at u + v >= 8", 200, headline=2
            )
        },
        _POOLED,
    ),
    **with_raw(
        {
            "spectral_gap": _spectrum(
                "Spectral gap", "log amplitude of latents minus that of pooled RGB; 0 is RGB-like", 201, headline=1
            )
        }
    ),
    "latent_spectrum_curve": MetricInfo(
        label="Spectrum of the latents",
        meaning=(
            "Amplitude of block DCT coefficients from low to high frequency, relative to DC, mean over channels; the"
            " band is one standard deviation. Latents above the dashed RGB line carry more high-frequency energy than"
            " images do; those nearer to it tend to be easier to diffuse"
        ),
        figure="spectrum",
        rank=220,
    ),
    "rgb_pooled_spectrum_curve": _reference("RGB, pooled to latent size", "latent_spectrum_curve", 221),
    "rgb_spectrum_curve": _reference("RGB, own size", "latent_spectrum_curve", 222),
}

CHOP_OFF = {
    **with_images(
        {
            "chop_off_area": _spectrum(
                "Chop-off area", "area under PSNR against the share of DCT coefficients kept", 204, headline=4
            )
        },
        "the images themselves",
    ),
    "chop_off_curve": MetricInfo(
        label="High-frequency chop-off",
        meaning=(
            "Quality of images decoded from latents whose high frequencies were cut off. The higher a curve stays, the"
            " less the decoder leans on high frequencies. The dashed line chops the images themselves"
        ),
        figure="chop-off",
        rank=230,
    ),
    "rgb_chop_off_curve": _reference("RGB", "chop_off_curve", 231),
}

MAP_SPECTRUM = {
    **with_images(
        with_raw(
            {
                "sec": _spectrum(
                    "SEC", "spectral energy concentration: share of full-map DCT energy at high frequencies", 202
                ),
                "spectral_slope": _spectrum(
                    "Spectral slope", "exponent of amplitude against radial frequency; photographs: -1", 203
                ),
            }
        ),
        _POOLED,
    ),
    "latent_radial_spectrum_curve": MetricInfo(
        label="Radial spectrum of whole latents",
        meaning=(
            "Amplitude of whole-map DCT coefficients against radial frequency, relative to DC, mean over channels."
            " 0.5 is the finest frequency of one axis; a flat tail is what white noise has"
        ),
        figure="radial-spectrum",
        rank=240,
    ),
    "rgb_pooled_radial_spectrum_curve": _reference("RGB, pooled to latent size", "latent_radial_spectrum_curve", 241),
    "rgb_radial_spectrum_curve": _reference("RGB, own size", "latent_radial_spectrum_curve", 242),
    "temporal_spectrum_curve": MetricInfo(
        label="Spectrum of the latents along time",
        meaning="Amplitude of DCT coefficients along the frames, relative to temporal DC, mean over all places",
        figure="temporal-spectrum",
        rank=250,
    ),
    "rgb_temporal_spectrum_curve": _reference("RGB", "temporal_spectrum_curve", 251),
}

CHANNEL_STATISTICS = {
    "channel_std_ratio": _channels("Channel std ratio", "largest over smallest standard deviation of a channel", 600),
    "channel_kurtosis": _channels("Channel kurtosis", "mean excess kurtosis of the latents' channels", 601),
    "channel_correlation": _channels("Channel corr.", "mean absolute correlation of pairs of latent channels", 602),
    "constant_channels": _channels("Constant channels", "number of latent channels that do not vary", 603),
    "channel_mean_curve": MetricInfo(label="Channel mean"),
    "channel_std_curve": MetricInfo(label="Channel std"),
    "channel_kurtosis_curve": MetricInfo(label="Channel kurtosis"),
}

DENOISING_SPECTRUM = {
    "denoising_error": _denoiser("Denoising error", "relative error of the denoised data, mean over noise levels", 700),
    "denoising_error_high": _denoiser(
        "Denoising error, HF", "relative error of the denoised data at u + v >= 8 of 8x8 block DCTs", 701
    ),
    "denoising_excess": _denoiser(
        "Denoising excess", "error of the denoised data over the best linear denoiser's of equal spectrum", 702
    ),
    "denoising_error_curve": MetricInfo(label="Denoising error by time"),
    "resolved_time_curve": MetricInfo(label="Which frequencies are resolved when"),
}

ERROR_ACCUMULATION = {
    "cumulative_error": _denoiser(
        "Cumulative error", "divergence of samples from data, Gaussians of DCT coefficients", 703
    ),
    "error_amplification": _denoiser(
        "Error amplification", "growth of single steps' errors along the sampler; at most 1 if none grows", 704
    ),
    "cumulative_error_curve": MetricInfo(label="Cumulative error along the sampler"),
    "modular_error_curve": MetricInfo(label="Error of each sampling step alone"),
}

SAMPLING_PATH = {
    "sampling_straightness": _denoiser(
        "Sampling straightness", "deviation of the trained ODE's velocity from straight lines; 0 is straight", 705
    ),
    "sampling_efficiency": _denoiser(
        "Sampling efficiency", "distance from noise to sample over the length of the way; 1 is straight", 706
    ),
}
