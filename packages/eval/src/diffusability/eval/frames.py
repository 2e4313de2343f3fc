"""Values of frames, by clip."""

from jaxtyping import Float
from torch import Tensor


def mean_of_frames(values: Float[Tensor, " n"], num_samples: int) -> Float[Tensor, " b"]:
    """The mean of each clip of the values of its frames, in the order of ``as_frames``, in float64."""
    return values.double().reshape(num_samples, -1).mean(1)
