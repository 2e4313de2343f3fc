"""The diffusion transformer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusability.core.denoiser import Denoiser
from diffusability.core.shapes import Labels, Latents, Times
from diffusability.models.dit_blocks import DiTBlock, FinalLayer, TimeEmbedding
from diffusability.models.positions import grid_positions


class DiT(Denoiser):
    """Predicts the velocity of noisy normalised image latents (Peebles & Xie 2023, with adaLN-Zero).

    Source: "Scalable Diffusion Models with Transformers", ICCV 2023. Differences: it predicts no variance, so that it
    has as many output channels as the latents, and time is continuous in [0, 1].

    Attributes:
        latent_shape: shape ``(c, h, w)`` of the latents that it is built for.
    """

    positions: Tensor

    def __init__(
        self,
        *,
        latent_shape: tuple[int, int, int],
        num_classes: int | None,
        patch_size: int,
        depth: int,
        hidden_size: int,
        num_heads: int,
        mlp_size: int,
    ) -> None:
        channels, height, width = latent_shape
        assert height % patch_size == 0
        assert width % patch_size == 0
        super().__init__()
        self.latent_shape = latent_shape
        self.num_classes = num_classes
        self.patch_size = patch_size
        self.patch_embedding = nn.Conv2d(channels, hidden_size, patch_size, stride=patch_size)
        positions = grid_positions(height // patch_size, width // patch_size, hidden_size)
        self.register_buffer("positions", positions, persistent=False)
        self.time_embedding = TimeEmbedding(hidden_size)
        self.label_embedding = None if num_classes is None else nn.Embedding(num_classes + 1, hidden_size)
        self.blocks = nn.ModuleList(DiTBlock(hidden_size, num_heads, mlp_size) for _ in range(depth))
        self.final = FinalLayer(hidden_size, channels * patch_size**2)
        self._initialize()

    @torch.no_grad()
    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1))
        assert self.patch_embedding.bias is not None
        nn.init.zeros_(self.patch_embedding.bias)
        for linear in (self.time_embedding.first, self.time_embedding.second):
            nn.init.normal_(linear.weight, std=0.02)
        if self.label_embedding is not None:
            nn.init.normal_(self.label_embedding.weight, std=0.02)
        for modulated in (*self.blocks, self.final):
            nn.init.zeros_(modulated.modulation[-1].weight)
        nn.init.zeros_(self.final.linear.weight)

    def forward(self, latents: Latents, time: Times, labels: Labels | None) -> Latents:
        """The prediction. Without labels, a conditional model predicts for "no class".

        Raises:
            ValueError: the latents have another shape than it is built for, or an unconditional model gets labels.
        """
        if tuple(latents.shape[1:]) != self.latent_shape:
            raise ValueError(
                f"this DiT is built for latents of shape {self.latent_shape!r}, got {tuple(latents.shape[1:])!r}"
            )
        features = self.patch_embedding(latents)
        tokens = features.flatten(2).transpose(1, 2) + self.positions
        condition = self.time_embedding(time) + self._embed(labels, len(latents))
        for block in self.blocks:
            tokens = block(tokens, condition)
        patches = self.final(tokens, condition).transpose(1, 2).unflatten(2, features.shape[2:])
        return F.pixel_shuffle(patches, self.patch_size).to(latents.dtype)

    def _embed(self, labels: Labels | None, batch_size: int) -> Tensor | float:
        if self.label_embedding is None:
            if labels is not None:
                raise ValueError("this DiT is unconditional (num_classes is None), and labels were given")
            return 0.0
        assert self.num_classes is not None
        if labels is None:
            labels = torch.full((batch_size,), self.num_classes, device=self.label_embedding.weight.device)
        embedded: Tensor = self.label_embedding(labels)
        return embedded
