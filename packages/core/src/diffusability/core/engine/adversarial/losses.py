"""Losses of a discriminator and of what it judges, on logits: high ones call an image real."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffusability.core.shapes import Images, Scalar

Logits = Float[Tensor, "b 1 *patches"]


def discriminator_loss(kind: str, real: Logits, fake: Logits) -> Scalar:
    """What the discriminator minimises, halved as in VQGAN.

    ``hinge`` (Lim & Ye 2017): ``(mean max(0, 1 - real) + mean max(0, 1 + fake)) / 2``;
    ``non-saturating`` (Goodfellow et al. 2014): ``(mean softplus(-real) + mean softplus(fake)) / 2``.
    """
    real, fake = real.float(), fake.float()
    if kind == "hinge":
        return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
    return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2


def generator_loss(kind: str, fake: Logits) -> Scalar:
    """What the reconstruction minimises: ``-mean fake`` (hinge) or ``mean softplus(-fake)`` (non-saturating)."""
    return -fake.float().mean() if kind == "hinge" else F.softplus(-fake.float()).mean()


def r1_penalty(real: Logits, images: Images) -> Scalar:
    """``mean_b |d sum(real) / d images_b|^2 / 2`` (Mescheder et al. 2018, equation 9), differentiable.

    ``images`` must require a gradient, and ``real`` must have been computed from them.
    """
    (gradient,) = torch.autograd.grad(real.float().sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(1).mean() / 2
