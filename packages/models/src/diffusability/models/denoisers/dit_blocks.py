"""The parts of a diffusion transformer (Peebles & Xie 2023, figure 3)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.models.denoisers.attention import attend, gelu
from diffusability.models.denoisers.positions import rotate, time_frequencies
from diffusability.models.specs.denoisers.dit_architecture import (
    FREQUENCY_SIZE,
    DiTArchitecture,
    Norm,
    TimeFrequencies,
)

Tokens = Float[Tensor, "b n d"]
Condition = Float[Tensor, "b d"]
#: One modulation for all tokens of a sample (m = 1), or one for each.
Modulation = Float[Tensor, "b m d"]
RotaryTable = tuple[Float[Tensor, "n e"], Float[Tensor, "n e"]]

EPSILON = 1e-6


def normalization(kind: Norm, size: int) -> nn.Module:
    """LayerNorm or RMSNorm without weights: the condition shifts and scales."""
    if kind == "rms":
        return nn.RMSNorm(size, eps=EPSILON, elementwise_affine=False)
    return nn.LayerNorm(size, eps=EPSILON, elementwise_affine=False)


def modulate(tokens: Tokens, shift: Modulation, scale: Modulation) -> Tokens:
    """``tokens * (1 + scale) + shift``, in one pass over memory."""
    return torch.addcmul(shift, tokens, 1 + scale)


def of_tokens(condition: Float[Tensor, "b *m d"]) -> Modulation:
    """A condition of samples, or of each token, as one that broadcasts over tokens."""
    return condition[:, None] if condition.ndim == 2 else condition


class TimeEmbedding(nn.Module):
    """An MLP on sinusoids of the time in [0, 1], at 1000 t.

    The original spaces the exponents of the wavelength by 1/128, from 0 to 127/128; diffusers' DiT by 1/127, up to 1.
    SiT embeds 1 - t without the factor 1000: it counts time from noise to data.
    """

    def __init__(self, hidden_size: int, frequencies: TimeFrequencies = "dit") -> None:
        super().__init__()
        self.from_noise = frequencies == "sit"
        self.last_exponent = 1.0 if frequencies == "diffusers" else None
        self.first = nn.Linear(FREQUENCY_SIZE, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)

    def forward(self, time: Float[Tensor, " b"]) -> Condition:
        """The embedding of each sample's time."""
        if self.from_noise:
            frequencies = time_frequencies(1 - time.double(), FREQUENCY_SIZE, scale=1.0)
        else:
            frequencies = time_frequencies(time, FREQUENCY_SIZE, last_exponent=self.last_exponent)
        embedding: Tensor = self.second(F.silu(self.first(frequencies.to(self.first.weight.dtype))))
        return embedding


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, with rotary positions and normalised queries and keys where asked."""

    def __init__(self, hidden_size: int, num_heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.projection = nn.Linear(hidden_size, hidden_size)
        head_size = hidden_size // num_heads
        self.query_scale = nn.Parameter(torch.ones(head_size)) if qk_norm else None
        self.key_scale = nn.Parameter(torch.ones(head_size)) if qk_norm else None

    def forward(self, tokens: Tokens, rotary: RotaryTable | None = None) -> Tokens:
        """Each token's mix of all tokens."""
        queries, keys, values = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        if self.query_scale is not None and self.key_scale is not None:
            queries = F.rms_norm(queries, self.query_scale.shape, self.query_scale.to(queries.dtype), EPSILON)
            keys = F.rms_norm(keys, self.key_scale.shape, self.key_scale.to(keys.dtype), EPSILON)
        if rotary is not None:
            queries, keys = rotate(queries, *rotary), rotate(keys, *rotary)
        mixed = attend(queries, keys, values)
        projected: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return projected


class GELUMLP(nn.Module):
    """Two linear maps around GELU, by its tanh approximation."""

    def __init__(self, hidden_size: int, mlp_size: int) -> None:
        super().__init__()
        self.first = nn.Linear(hidden_size, mlp_size)
        self.second = nn.Linear(mlp_size, hidden_size)

    def forward(self, tokens: Tokens) -> Tokens:
        """Tokens, each mapped alone."""
        mapped: Tensor = self.second(gelu(self.first(tokens)))
        return mapped


class SwiGLUMLP(nn.Module):
    """``W3 (silu(W1 x) * W2 x)``, with W1 and W2 in one matrix (Shazeer 2020, equation 6)."""

    def __init__(self, hidden_size: int, mlp_size: int) -> None:
        super().__init__()
        self.first = nn.Linear(hidden_size, 2 * mlp_size)
        self.second = nn.Linear(mlp_size, hidden_size)

    def forward(self, tokens: Tokens) -> Tokens:
        """Tokens, each mapped alone."""
        gate, value = self.first(tokens).chunk(2, dim=-1)
        mapped: Tensor = self.second(F.silu(gate) * value)
        return mapped


class DiTBlock(nn.Module):
    """Attention and an MLP, each shifted, scaled and gated by the condition: adaLN-Zero.

    A linear map makes the modulation of the condition: shift, scale and gate of the attention, then those of the MLP.
    With a modulation of zero a block is the identity. A condition may be one of each token, as in a head.
    """

    def __init__(self, architecture: DiTArchitecture) -> None:
        super().__init__()
        size = architecture.hidden_size
        self.norm = normalization(architecture.norm, size)
        self.attention = Attention(size, architecture.num_heads, architecture.qk_norm)
        self.modulation = nn.Linear(size, 6 * size)
        mlp = SwiGLUMLP if architecture.activation == "swiglu" else GELUMLP
        self.mlp = mlp(size, architecture.mlp_size)

    def forward(self, tokens: Tokens, condition: Float[Tensor, "b *m d"], rotary: RotaryTable | None = None) -> Tokens:
        """Tokens of the same shape."""
        modulation = of_tokens(self.modulation(condition))
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation.chunk(6, dim=-1)
        attended: Tensor = self.attention(modulate(self.norm(tokens), shift, scale), rotary)
        tokens = torch.addcmul(tokens, gate, attended)
        transformed: Tensor = self.mlp(modulate(self.norm(tokens), mlp_shift, mlp_scale))
        return torch.addcmul(tokens, mlp_gate, transformed)


class FinalLayer(nn.Module):
    """Maps each token to the values of its patch; ``DiT`` initialises it to zero."""

    def __init__(self, architecture: DiTArchitecture) -> None:
        super().__init__()
        self.norm = normalization(architecture.norm, architecture.hidden_size)
        self.modulation = nn.Linear(architecture.hidden_size, 2 * architecture.hidden_size)
        self.linear = nn.Linear(architecture.hidden_size, architecture.out_channels * architecture.patch_volume)

    def forward(self, tokens: Tokens, condition: Float[Tensor, "b *m d"]) -> Float[Tensor, "b n outputs"]:
        """The patch of each token, flat."""
        shift, scale = of_tokens(self.modulation(condition)).chunk(2, dim=-1)
        patches: Tensor = self.linear(modulate(self.norm(tokens), shift, scale))
        return patches
