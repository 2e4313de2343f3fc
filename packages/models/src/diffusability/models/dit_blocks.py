"""The parts of a diffusion transformer (Peebles & Xie 2023, figure 3)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.models.positions import time_frequencies

Tokens = Float[Tensor, "b n d"]
Condition = Float[Tensor, "b d"]


def modulate(tokens: Tokens, shift: Condition, scale: Condition) -> Tokens:
    """``tokens * (1 + scale) + shift``, the same for all tokens of a sample."""
    return tokens * (1 + scale[:, None]) + shift[:, None]


class TimeEmbedding(nn.Module):
    """An MLP on sinusoids of the time in [0, 1]."""

    def __init__(self, hidden_size: int, frequency_size: int = 256) -> None:
        super().__init__()
        self.frequency_size = frequency_size
        self.first = nn.Linear(frequency_size, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)

    def forward(self, time: Float[Tensor, " b"]) -> Condition:
        """The embedding of each sample's time."""
        frequencies = time_frequencies(time, self.frequency_size).to(self.first.weight.dtype)
        embedding: Tensor = self.second(F.silu(self.first(frequencies)))
        return embedding


class Attention(nn.Module):
    """Multi-head self-attention over all tokens."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.projection = nn.Linear(hidden_size, hidden_size)

    def forward(self, tokens: Tokens) -> Tokens:
        """Each token's mix of all tokens."""
        queries, keys, values = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        projected: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return projected


class DiTBlock(nn.Module):
    """Attention and an MLP, each shifted, scaled and gated by the condition: adaLN-Zero.

    Zero-initialised modulation, which ``DiT`` sees to, makes it the identity when untrained.
    """

    def __init__(self, hidden_size: int, num_heads: int, mlp_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.attention = Attention(hidden_size, num_heads)
        self.mlp = nn.Sequential(
            nn.Linear(hidden_size, mlp_size), nn.GELU(approximate="tanh"), nn.Linear(mlp_size, hidden_size)
        )
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))

    def forward(self, tokens: Tokens, condition: Condition) -> Tokens:
        """Tokens of the same shape."""
        modulation: Tensor = self.modulation(condition)
        attention_shift, attention_scale, attention_gate, mlp_shift, mlp_scale, mlp_gate = modulation.chunk(6, dim=-1)
        attended: Tensor = self.attention(modulate(self.norm(tokens), attention_shift, attention_scale))
        tokens = tokens + attention_gate[:, None] * attended
        transformed: Tensor = self.mlp(modulate(self.norm(tokens), mlp_shift, mlp_scale))
        return tokens + mlp_gate[:, None] * transformed


class FinalLayer(nn.Module):
    """Maps each token to the values of its patch; ``DiT`` initialises it to zero."""

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * hidden_size))
        self.linear = nn.Linear(hidden_size, outputs)

    def forward(self, tokens: Tokens, condition: Condition) -> Float[Tensor, "b n outputs"]:
        """The patch of each token, flat."""
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        patches: Tensor = self.linear(modulate(self.norm(tokens), shift, scale))
        return patches
