"""Where the bottleneck of an autoencoder is: the convolutions that give its moments and take its latents."""

import attrs
from torch import nn

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.errors import SpecError
from diffusability.models.autoencoders.compact_kl import CompactKL
from diffusability.models.autoencoders.compact_video_kl import CompactVideoKL
from diffusability.models.autoencoders.diffusers_autoencoder import DiffusersAutoencoder
from diffusability.models.autoencoders.taesd import Taesd

#: Classes of diffusers whose bottleneck is plain convolutions. LTX-Video shares one log variance over channels, Cosmos
#: projects in two steps, and DC-AE has shortcuts around its bottleneck.
_CLASSES = frozenset(
    {
        "AutoencoderKL",
        "AutoencoderKLFlux2",
        "AutoencoderKLCogVideoX",
        "AutoencoderKLWan",
        "AutoencoderKLQwenImage",
        "AutoencoderKLHunyuanVideo",
    }
)

Conv = nn.Conv2d | nn.Conv3d


@attrs.frozen(kw_only=True, eq=False)
class Bottleneck:
    """The convolutions of a bottleneck.

    Attributes:
        moments: the encoder's last one: means and, for a Gaussian, log variances.
        quant: a convolution of single pixels after it, or None.
        post_quant: a convolution of single pixels before the decoder, or None.
        first: the decoder's first one.
        means: further ones whose outputs are added to the means.
        readers: further ones whose inputs are latents, of single pixels.
        is_gaussian: False when there are no log variances.
    """

    moments: Conv
    quant: Conv | None = None
    post_quant: Conv | None = None
    first: Conv
    means: tuple[Conv, ...] = ()
    readers: tuple[Conv, ...] = ()
    is_gaussian: bool = True

    def all(self) -> list[Conv]:
        """All of them."""
        named = (self.moments, self.quant, self.post_quant, self.first)
        return [conv for conv in (*named, *self.means, *self.readers) if conv is not None]


def bottleneck_of(autoencoder: Autoencoder) -> Bottleneck:
    """The bottleneck of an autoencoder. Raises SpecError for one whose bottleneck is not known."""
    match autoencoder:
        case CompactKL():
            shortcut = autoencoder.shortcut
            return Bottleneck(
                moments=_conv(autoencoder.encoder[-1]),
                first=_conv(autoencoder.decoder[0]),
                means=() if shortcut is None else (shortcut.to_latent,),
                readers=() if shortcut is None else (shortcut.to_patch,),
            )
        case CompactVideoKL():
            return Bottleneck(
                moments=_conv(autoencoder.encoder.layers[-1]),
                first=_conv(autoencoder.decoder.layers[0]),
                means=() if autoencoder.to_latent is None else (autoencoder.to_latent,),
                readers=() if autoencoder.to_patch is None else (autoencoder.to_patch,),
            )
        case Taesd():
            return Bottleneck(
                moments=_conv(autoencoder.encoder[-1]), first=_conv(autoencoder.decoder[1]), is_gaussian=False
            )
        case DiffusersAutoencoder() if autoencoder.config["_class_name"] in _CLASSES and not autoencoder.patchify:
            return _of_diffusers(autoencoder)
    name = getattr(autoencoder, "config", {}).get("_class_name", type(autoencoder).__name__)
    raise SpecError(
        f"the bottleneck of {name} cannot be changed; expected compact-kl, compact-video-kl, taesd, or one of"
        f" diffusers' {', '.join(sorted(_CLASSES))}, without patchify"
    )


def _of_diffusers(autoencoder: DiffusersAutoencoder) -> Bottleneck:
    model = autoencoder.model
    # CogVideoX' decoder reads the latents in every normalisation.
    names = [name for name, _ in model.decoder.named_modules() if name.endswith((".conv_y", ".conv_b"))]
    quant, post_quant = getattr(model, "quant_conv", None), getattr(model, "post_quant_conv", None)
    return Bottleneck(
        moments=_conv(model.encoder.conv_out),
        quant=None if quant is None else _conv(quant),
        post_quant=None if post_quant is None else _conv(post_quant),
        first=_conv(model.decoder.conv_in),
        readers=tuple(_conv(model.decoder.get_submodule(name)) for name in names),
    )


def _conv(module: nn.Module) -> Conv:
    """The convolution itself, which causal ones of diffusers wrap."""
    inner = module if isinstance(module, Conv) else module.get_submodule("conv")
    assert isinstance(inner, Conv)
    return inner
