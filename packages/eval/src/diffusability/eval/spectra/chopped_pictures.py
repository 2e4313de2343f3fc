"""Pictures of images of which only low frequencies are kept."""

import attrs
from jaxtyping import Float
from torch import Tensor


@attrs.frozen(kw_only=True, eq=False)
class ChoppedPictures:
    """One image at each share kept, in [-1, 1]: chopped itself, and decoded from chopped latents."""

    rgb: Float[Tensor, "shares c h w"]
    decoded: Float[Tensor, "shares c h w"]
