"""The loss in bins of time, for the log."""

from jaxtyping import Float
from torch import Tensor

from diffusability.core.shapes import Times

_NUM_TIME_BINS = 4


def means_by_time(errors: Float[Tensor, " b"], time: Times, name: str = "velocity") -> dict[str, Tensor]:
    """Mean error in each quarter of [0, 1] that has samples, named such as ``velocity_t0.25-0.50``.

    ``time`` should be on the CPU, so that nothing waits for an accelerator.
    """
    bins = (time * _NUM_TIME_BINS).long().clamp(0, _NUM_TIME_BINS - 1)
    return {
        f"{name}_t{index / _NUM_TIME_BINS:.2f}-{(index + 1) / _NUM_TIME_BINS:.2f}": errors[
            (bins == index).nonzero().flatten().to(errors.device)
        ].mean()
        for index in sorted(set(bins.tolist()))
    }
