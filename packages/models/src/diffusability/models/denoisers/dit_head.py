"""A wide, shallow head behind the blocks of a diffusion transformer (DDT: Wang et al. 2025; RAE: Zheng et al. 2025)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.models.denoisers.dit_blocks import Condition, DiTBlock, RotaryTable, Tokens
from diffusability.models.denoisers.positions import grid_positions, rotary_table
from diffusability.models.specs.denoisers.dit_architecture import DiTArchitecture


class DiTHead(nn.Module):
    """Blocks on patches that are embedded again, conditioned at each token by what the blocks before have made of it.

    The condition is ``silu(s + t)`` of encoded tokens s and the time's embedding t; where the head is wider, it is
    projected to its width, with another SiLU behind. Sources: "DDT: Decoupled Diffusion Transformer" (Wang et al.
    2025), figure 2; "Diffusion Transformers with Representation Autoencoders" (Zheng et al. 2025), section 5.
    """

    positions: Tensor | None
    cosines: Tensor | None
    sines: Tensor | None

    def __init__(self, architecture: DiTArchitecture) -> None:
        super().__init__()
        own = architecture.of_head
        self.patch_embedding = nn.Linear(own.in_channels * own.patch_volume, own.hidden_size)
        wider = own.hidden_size != architecture.hidden_size
        self.projection = nn.Linear(architecture.hidden_size, own.hidden_size) if wider else None
        self.blocks = nn.ModuleList(DiTBlock(own) for _ in range(own.depth))
        rotates = own.positions != "sin-cos"
        cosines, sines = rotary_table(own.grid, own.hidden_size // own.num_heads) if rotates else (None, None)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)
        # With rotations, the tokens of the head get no sinusoids, as in the authors' code.
        self.register_buffer(
            "positions", None if rotates else grid_positions(own.grid, own.hidden_size), persistent=False
        )

    def forward(
        self, patches: Float[Tensor, "b n values"], encoded: Tokens, time: Condition
    ) -> tuple[Float[Tensor, "b n width"], Float[Tensor, "b n width"]]:
        """The head's tokens, and the condition of the final layer."""
        condition = F.silu(encoded + time[:, None])
        if self.projection is not None:
            condition = F.silu(self.projection(condition))
        tokens = self.patch_embedding(patches)
        if self.positions is not None:
            tokens = tokens + self.positions
        for block in self.blocks:
            tokens = block(tokens, condition, self._rotary)
        return tokens, condition

    @property
    def _rotary(self) -> RotaryTable | None:
        return None if self.cosines is None or self.sines is None else (self.cosines, self.sines)
