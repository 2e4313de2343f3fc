"""The variational bound that teaches a DDPM its variance (Nichol & Dhariwal 2021)."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffusability.core.contracts.linear_betas import LinearBetas
from diffusability.core.numerics.axes import per_sample
from diffusability.core.numerics.randomness import sent
from diffusability.core.shapes import Latents

Steps = Int[Tensor, " b"]


def _at(table: Float[Tensor, " k"], steps: Steps, like: Latents) -> Float[Tensor, "b ..."]:
    return per_sample(sent(table, like.device)[steps].to(like.dtype), like)


def posterior_log_variance(schedule: LinearBetas) -> Float[Tensor, " k"]:
    """Logarithm of ``beta~_k = beta_k (1 - abar_{k-1}) / (1 - abar_k)`` (Ho et al. 2020, equation 7).

    At k = 0, where it is minus infinity, that of k = 1, as in the authors' code.
    """
    before = torch.cat([torch.ones(1, dtype=torch.float64), schedule.alphas_bar[:-1]])
    variance = schedule.betas * (1 - before) / (1 - schedule.alphas_bar)
    return torch.cat([variance[1:2], variance[1:]]).log()


def learned_log_variance(schedule: LinearBetas, steps: Steps, fraction: Latents) -> Latents:
    """``v log beta_k + (1 - v) log beta~_k`` with v = (fraction + 1) / 2 (equation 15).

    ``fraction`` is the second half of the denoiser's output, in [-1, 1] when the variance is between the two bounds.
    """
    low = _at(posterior_log_variance(schedule), steps, fraction)
    high = _at(schedule.betas.log(), steps, fraction)
    share = (fraction + 1) / 2
    return share * high + (1 - share) * low


def variational_bound(
    schedule: LinearBetas, steps: Steps, predicted: Latents, noise: Latents, log_variance: Latents
) -> Float[Tensor, " b"]:
    """A sample's term ``L_k`` of the bound, in bits per dimension: its mean over k, times ``num_steps``, bounds the
    negative log likelihood.

    For k > 0 the divergence of the model's Gaussian from the posterior ``q(z_{k-1} | z_k, z_0)``, for k = 0 the
    negative log density of the data. (Images on 256 levels would take a discretised density there; latents are real
    numbers.) The means differ by ``beta_k / sqrt((1 - beta_k) (1 - abar_k))`` times the error of the noise. ``noise``
    and ``predicted`` should be detached, so that this teaches the variance alone (Nichol & Dhariwal 2021, section 3.1).
    """
    betas, alphas_bar = schedule.betas, schedule.alphas_bar
    scale = _at(betas / ((1 - betas) * (1 - alphas_bar)).sqrt(), steps, noise)
    squared = (scale * (predicted - noise)).square() * torch.exp(-log_variance)
    true_log_variance = _at(posterior_log_variance(schedule), steps, noise)
    divergence = (log_variance - true_log_variance - 1 + torch.exp(true_log_variance - log_variance) + squared) / 2
    density = (math.log(2 * math.pi) + log_variance + squared) / 2
    first = per_sample(steps == 0, noise)
    return torch.where(first, density, divergence).flatten(1).mean(1) / math.log(2)
