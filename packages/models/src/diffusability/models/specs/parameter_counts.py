"""Parameter counts in closed form, so that checking a spec needs no torch."""

from diffusability.models.specs.denoisers.dit_architecture import FREQUENCY_SIZE, DiTArchitecture


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _conv(inputs: int, outputs: int, kernel: int) -> int:
    return inputs * outputs * kernel * kernel + outputs


def compact_kl_parameters(
    *,
    image_channels: int,
    latent_channels: int,
    spatial_factor: int,
    stem_factor: int,
    num_levels: int,
    width: int,
    blocks: int,
    patch_shortcut: bool,
) -> int:
    """Parameters of ``CompactKL``: encoder, decoder, and the two maps of the patch shortcut."""
    norm = 2 * width
    block = norm + _conv(width, width, 3) + _conv(width, width, 1)
    pixels = image_channels * stem_factor**2
    body = num_levels * blocks * block + norm
    encoder = _conv(pixels, width, 3) + body + _conv(width, 2 * latent_channels, 3)
    decoder = _conv(latent_channels, width, 3) + body + _conv(width, pixels, 3)
    resize = (num_levels - 1) * (_conv(width, width, 3) + _conv(width, 4 * width, 3))
    shortcut = 2 * image_channels * spatial_factor**2 * latent_channels if patch_shortcut else 0
    return encoder + decoder + resize + shortcut


def dit_parameters(architecture: DiTArchitecture) -> int:
    """Parameters of ``DiT``. The positions are fixed and do not count."""
    size = architecture.hidden_size
    first = (2 if architecture.activation == "swiglu" else 1) * architecture.mlp_size
    block = _linear(size, 3 * size) + _linear(size, size) + _linear(size, first) + _linear(architecture.mlp_size, size)
    block += _linear(size, 6 * size)
    if architecture.qk_norm:
        block += 2 * (size // architecture.num_heads)
    embeddings = _linear(architecture.in_channels * architecture.patch_volume, size)
    embeddings += _linear(FREQUENCY_SIZE, size) + _linear(size, size)
    if architecture.num_classes is not None:
        embeddings += (architecture.num_classes + 1) * size
    final = _linear(size, 2 * size) + _linear(size, architecture.out_channels * architecture.patch_volume)
    return embeddings + architecture.depth * block + final
