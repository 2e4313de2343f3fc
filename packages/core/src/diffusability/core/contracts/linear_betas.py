"""The noise schedule of DDPM: linear betas over discrete steps, and its place on the straight path."""

from functools import lru_cache

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.shapes import Times


@attrs.frozen(kw_only=True)
class LinearBetas:
    """Variances ``beta_k``, linear in the step k = 0 ... ``num_steps - 1`` (Ho et al. 2020, section 4).

    ``z_k = a_k z + s_k eps`` with ``a_k^2 = abar_k = prod_{i <= k} (1 - beta_i)`` and ``s_k^2 = 1 - abar_k``. Divided
    by ``a_k + s_k``, this is a point of the straight path ``(1 - t) z + t eps`` at ``t_k = s_k / (a_k + s_k)``.

    Attributes:
        first: beta at step 0.
        last: beta at the last step.
        num_steps: training steps of the process.
    """

    first: float = 1e-4
    last: float = 0.02
    num_steps: int = 1000

    def __attrs_post_init__(self) -> None:
        if not 0 < self.first <= self.last < 1 or self.num_steps < 2:
            raise ValueError(f"expected 0 < first <= last < 1 and at least 2 steps, got {self!r}")

    @property
    def betas(self) -> Float[Tensor, " k"]:
        """``beta_k``, float64, on the CPU."""
        return _tables(self)[0]

    @property
    def alphas_bar(self) -> Float[Tensor, " k"]:
        """``abar_k``, the share of the variance that is data; float64, on the CPU."""
        return _tables(self)[1]

    @property
    def path_times(self) -> Float[Tensor, " k"]:
        """``t_k``, increasing, where each step lies on the straight path; float64, on the CPU."""
        return _tables(self)[2]

    def step_at(self, time: Times) -> Times:
        """The step, a real number from 0 to ``num_steps - 1``, with the signal-to-noise ratio of the path at a time.

        Linear in ``log(t / (1 - t))`` between steps; times beyond the schedule's ends get its ends. Keeps the dtype.
        """
        on_cpu = torch.logit(self.path_times)  # its ends are read there, so that nothing waits for an accelerator
        table = on_cpu.to(time.device)
        wanted = torch.logit(time.double()).clamp(float(on_cpu[0]), float(on_cpu[-1]))
        upper = torch.searchsorted(table, wanted.contiguous()).clamp(1, self.num_steps - 1)
        low, high = table[upper - 1], table[upper]
        return (upper - 1 + (wanted - low) / (high - low)).to(time.dtype)


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # a cached inference tensor could not be used in later gradients
def _tables(schedule: LinearBetas) -> tuple[Tensor, Tensor, Tensor]:
    betas = torch.linspace(schedule.first, schedule.last, schedule.num_steps, dtype=torch.float64, device="cpu")
    alphas_bar = (1 - betas).cumprod(0)
    data, noise = alphas_bar.sqrt(), (1 - alphas_bar).sqrt()
    return betas, alphas_bar, noise / (data + noise)
