"""What readers see of the predictors of diffusability. Free of torch."""

from diffusability.core.specs.metric_info import MetricInfo
from diffusability.eval.specs.derived_metrics import with_raw


def _info(label: str, meaning: str, group: str, rank: float, headline: float | None = None) -> MetricInfo:
    return MetricInfo(label=label, meaning=meaning, judges="latents", group=group, rank=rank, headline=headline)


VIV = {
    "viv": _info(
        "VIV",
        "velocity irreducible variance: what no denoiser can predict, per dimension",
        "velocity",
        300,
        headline=3,
    ),
    "viv_unconditional": _info(
        "VIV, no classes", "velocity irreducible variance of all classes as one Gaussian", "velocity", 301
    ),
    "trajectory_straightness": _info(
        "Straightness", "deviation of the flow from straight lines; 0 is straight", "velocity", 302
    ),
    "viv_curve": MetricInfo(
        label="What no denoiser can predict",
        meaning=(
            "Variance of the velocity given the noisy latents, per dimension, of latents modelled as a Gaussian. Lower"
            " is easier; its mean over time is VIV"
        ),
        figure="velocity-variance",
        rank=310,
    ),
}

SPATIAL_STRUCTURE = with_raw(
    {
        "lds": _info(
            "LDS",
            "local against distant similarity: cosine similarity of neighbouring latent pixels minus that of distant"
            " ones",
            "structure",
            400,
        ),
        "cds": _info(
            "CDS",
            "correlation decay slope: how fast the cosine similarity of latent pixels falls with their distance",
            "structure",
            401,
        ),
        "srss": _info(
            "SRSS",
            "semantic-region self-similarity: similarity within the foreground minus that to the far background",
            "structure",
            402,
        ),
    }
)

NEIGHBOR_CONSISTENCY = with_raw(
    {
        "lnc": _info(
            "LNC",
            "neighbour consistency of latents: share of nearest neighbours with the same label",
            "structure",
            403,
        )
    }
)

UNIFORMITY = {
    "density_cv": _info(
        "Density CV", "unevenness of the latents' density in a t-SNE plane, its standard deviation", "structure", 404
    ),
    "density_gini": _info(
        "Density Gini", "unevenness of the latents' density in a t-SNE plane, its Gini coefficient", "structure", 405
    ),
    "density_entropy": _info(
        "Density entropy", "evenness of the latents' density in a t-SNE plane, 1 is even", "structure", 406
    ),
}

EQUIVARIANCE = with_raw(
    {
        "scale_equivariance_error": _info(
            "Scale eq. error", "distance of Enc(down x) to down Enc(x), relative", "equivariance", 500
        ),
        "rotation_equivariance_error": _info(
            "Rotation eq. error",
            "distance of Enc(T x) to T Enc(x), relative, of a rotation by 90 degrees",
            "equivariance",
            501,
        ),
        "flip_equivariance_error": _info(
            "Flip eq. error", "distance of Enc(T x) to T Enc(x), relative, of a mirror image", "equivariance", 502
        ),
        "shift_equivariance_error": _info(
            "Shift eq. error",
            "distance of Enc(T x) to T Enc(x), relative, of a shift by one latent pixel",
            "equivariance",
            503,
        ),
    }
)

INTERPOLATION = {
    "interpolation_smoothness": _info(
        "Interpolation", "directness of the decoded way between two latents", "equivariance", 504
    )
}
