"""Parameter counts in closed form, so that checking a spec needs no torch."""


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


def dit_parameters(
    *,
    latent_channels: int,
    num_classes: int | None,
    patch_size: int,
    depth: int,
    hidden_size: int,
    mlp_size: int,
    frequency_size: int = 256,
) -> int:
    """Parameters of ``DiT``. The positions are fixed and do not count."""
    patch = latent_channels * patch_size**2
    block = (
        _linear(hidden_size, 3 * hidden_size)
        + _linear(hidden_size, hidden_size)
        + _linear(hidden_size, mlp_size)
        + _linear(mlp_size, hidden_size)
        + _linear(hidden_size, 6 * hidden_size)
    )
    embeddings = _linear(patch, hidden_size) + _linear(frequency_size, hidden_size) + _linear(hidden_size, hidden_size)
    if num_classes is not None:
        embeddings += (num_classes + 1) * hidden_size
    final = _linear(hidden_size, 2 * hidden_size) + _linear(hidden_size, patch)
    return embeddings + depth * block + final
