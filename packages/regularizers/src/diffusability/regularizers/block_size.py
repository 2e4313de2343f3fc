"""Whether latents can be cut into blocks for a DCT."""


def check_blocks(kind: str, block_size: int, latent_shape: tuple[int, ...]) -> None:
    """Looks whether latents of shape ``(c, *t, h, w)`` consist of whole blocks.

    Raises:
        ValueError: they do not.
    """
    height, width = latent_shape[-2:]
    if height % block_size or width % block_size:
        raise ValueError(
            f"{kind}: block_size {block_size!r} does not divide latents of {height}x{width}; expected a common divisor"
            " of both sides"
        )
