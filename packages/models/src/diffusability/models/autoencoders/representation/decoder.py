"""The decoder of a representation autoencoder: a vision transformer from latents to pixels."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.models.denoisers.attention import attend
from diffusability.models.denoisers.positions import grid_positions
from diffusability.models.specs.autoencoders.rae import DecoderSize

EPSILON = 1e-12
Tokens = Float[Tensor, "b n d"]


class DecoderBlock(nn.Module):
    """Attention and an MLP, each behind a layer norm and with a shortcut (Dosovitskiy et al. 2021, equations 2, 3)."""

    def __init__(self, size: DecoderSize) -> None:
        super().__init__()
        width = size.width
        self.num_heads = size.num_heads
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.first = nn.Linear(width, size.mlp_size)
        self.second = nn.Linear(size.mlp_size, width)

    def forward(self, tokens: Tokens) -> Tokens:
        """Tokens of the same shape."""
        heads = self.qkv(self.norm1(tokens)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attend(*heads.unbind(0)).transpose(1, 2).flatten(2)
        tokens = tokens + self.projection(mixed)
        transformed: Tensor = self.second(F.gelu(self.first(self.norm2(tokens))))
        return tokens + transformed


class ViTDecoder(nn.Module):
    """Maps latents to pixels: the decoder of He et al. (2022) without masked tokens, as Zheng et al. (2025) train it.

    A learned token stands before those of the latents, whose places are sinusoids; latents may have any height and
    width. Pixels are in [-1, 1], by a 1 x 1 convolution and a pixel shuffle.
    """

    def __init__(self, *, latent_channels: int, size: DecoderSize, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.embedding = nn.Linear(latent_channels, size.width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.blocks = nn.ModuleList(DecoderBlock(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width, eps=EPSILON)
        self.pixels = nn.Conv2d(size.width, 3 * patch_size**2, 1)
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.pixels.weight.flatten(1))
        assert self.pixels.bias is not None
        nn.init.zeros_(self.pixels.bias)
        nn.init.normal_(self.class_token, std=0.02)

    def forward(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 image_h image_w"]:
        """Images, not clamped."""
        grid = latents.shape[-2:]
        tokens = self.embedding(latents.flatten(2).transpose(1, 2))
        positions = grid_positions(grid, tokens.shape[-1]).to(tokens)
        tokens = torch.cat([self.class_token.to(tokens.dtype).expand(len(tokens), -1, -1), tokens + positions], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        patches = self.norm(tokens)[:, 1:].transpose(1, 2).unflatten(2, grid)
        return F.pixel_shuffle(self.pixels(patches), self.patch_size)
