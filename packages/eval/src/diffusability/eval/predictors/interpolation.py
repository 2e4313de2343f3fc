"""Whether the straight line between two latents decodes to a short way between two images."""

import torch
from jaxtyping import Float
from torch import Tensor


def path_directness(decoded: Float[Tensor, "k n *s"]) -> Float[Tensor, " n"]:
    """Distance of the ends over the length of the path, of each of ``n`` paths of ``k`` images; in (0, 1], 1 is direct.

    Distances are root mean squares over pixels. A path length as in Karras et al. 2019 (StyleGAN, section 4.1), here
    relative to the ends and in pixels, so that it needs no pretrained network. A linear decoder gives exactly 1; a
    decoder that leaves the image manifold between two latents gives less. 1 for a path whose images are all equal.
    """
    flat = decoded.double().flatten(2)
    steps = (flat[1:] - flat[:-1]).square().mean(2).sqrt().sum(0)
    ends = (flat[-1] - flat[0]).square().mean(1).sqrt()
    return torch.where(steps > 0, ends / steps.clamp_min(1e-300), torch.ones_like(steps))
