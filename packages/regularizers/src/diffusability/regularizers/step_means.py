"""Means over a whole optimizer step, for weights that adapt to what the last step has measured."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffusability.core.engine.rank_means import mean_over_ranks


class StepMeans(nn.Module):
    """Adds numbers up over the micro batches of a step and over the ranks; hands the means out when the step is over.

    So what depends on them depends neither on the micro batch nor on the number of ranks. Everything is in buffers, so
    that a resumed run continues exactly.
    """

    step: Int[Tensor, ""]
    sums: Float[Tensor, " n"]
    count: Int[Tensor, ""]

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("step", torch.tensor(-1))
        self.register_buffer("sums", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0))

    @torch.no_grad()
    def finished(self, step: int) -> Float[Tensor, " n"] | None:
        """The means of the step that was added to before this one, once; None when there is none."""
        if step == int(self.step) or not int(self.count):
            return None
        means = self.sums / self.count
        self.sums.zero_()
        self.count.zero_()
        return means

    @torch.no_grad()
    def add(self, step: int, values: Float[Tensor, " n"]) -> None:
        """Adds one micro batch of an optimizer step. What ``finished`` did not hand out before is lost."""
        if step != int(self.step):
            self.step.fill_(step)
            self.sums.zero_()
            self.count.zero_()
        self.sums += mean_over_ranks(values.to(self.sums))
        self.count += 1

    @torch.no_grad()
    def so_far(self) -> Float[Tensor, " n"]:
        """The means of the micro batches of the present step."""
        return self.sums / self.count.clamp_min(1)
