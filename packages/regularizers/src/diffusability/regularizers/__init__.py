"""Regularizers that make the latents of an autoencoder easier to diffuse.

``specs`` holds what a YAML file configures and needs no torch; ``terms`` holds one regularizer a module. Its losses are
functions on tensors, to be imported from here; importing this package does not import torch.
"""

from typing import TYPE_CHECKING

from diffusability.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from diffusability.regularizers.terms.channel_dropout import first_channels
    from diffusability.regularizers.terms.decoder_lipschitz import (
        difference_penalty,
        gradient_penalty,
        sum_difference_penalty,
        sum_gradient_penalty,
    )
    from diffusability.regularizers.terms.equivariance import Transform, equivariance_loss
    from diffusability.regularizers.terms.frequency_chop import frequency_chop_loss
    from diffusability.regularizers.terms.high_frequency_penalty import high_frequency_penalty
    from diffusability.regularizers.terms.kl import kl_loss
    from diffusability.regularizers.terms.latent_masking import latent_masking_loss, random_mask
    from diffusability.regularizers.terms.latent_noise import noised
    from diffusability.regularizers.terms.local_correlation import local_correlation_loss
    from diffusability.regularizers.terms.representation_alignment import (
        alignment_loss,
        marginal_cosine_loss,
        marginal_distance_loss,
    )
    from diffusability.regularizers.terms.scale_equivariance import scale_equivariance_loss
    from diffusability.regularizers.terms.spectral_masking import spectral_masking_loss
    from diffusability.regularizers.terms.spectrum_matching import spectrum_matching_loss
    from diffusability.regularizers.terms.variance_expansion import variance_expansion_loss
    from diffusability.regularizers.terms.velocity_variance import velocity_variance

_HOMES = {
    "terms.channel_dropout": ("first_channels",),
    "terms.decoder_lipschitz": (
        "difference_penalty",
        "gradient_penalty",
        "sum_difference_penalty",
        "sum_gradient_penalty",
    ),
    "terms.equivariance": ("Transform", "equivariance_loss"),
    "terms.frequency_chop": ("frequency_chop_loss",),
    "terms.high_frequency_penalty": ("high_frequency_penalty",),
    "terms.kl": ("kl_loss",),
    "terms.latent_masking": ("latent_masking_loss", "random_mask"),
    "terms.latent_noise": ("noised",),
    "terms.local_correlation": ("local_correlation_loss",),
    "terms.representation_alignment": ("alignment_loss", "marginal_cosine_loss", "marginal_distance_loss"),
    "terms.scale_equivariance": ("scale_equivariance_loss",),
    "terms.spectral_masking": ("spectral_masking_loss",),
    "terms.spectrum_matching": ("spectrum_matching_loss",),
    "terms.variance_expansion": ("variance_expansion_loss",),
    "terms.velocity_variance": ("velocity_variance",),
}
__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
