"""The diffusion transformer."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusability.core.contracts.denoiser import Denoiser
from diffusability.core.errors import DataError, SpecError
from diffusability.core.shapes import Labels, Latents, Predictions, Times
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.denoisers.dit_blocks import DiTBlock, FinalLayer, RotaryTable, TimeEmbedding
from diffusability.models.denoisers.dit_checkpoints import load_pretrained, split_modulation, write_exchange
from diffusability.models.denoisers.dit_head import DiTHead
from diffusability.models.denoisers.patches import from_patches, to_patches
from diffusability.models.denoisers.positions import grid_positions, rotary_table
from diffusability.models.specs.denoisers.dit import DiTSpec
from diffusability.models.specs.denoisers.dit_architecture import DiTArchitecture


class DiT(Denoiser):
    """Maps noisy normalised latents of images or clips to a prediction (Peebles & Xie 2023, with adaLN-Zero).

    Source: "Scalable Diffusion Models with Transformers", ICCV 2023. Time is continuous in [0, 1], and embedded at
    1000 t. Weights of versions in which one matrix modulated all blocks load, too.

    Attributes:
        architecture: what it was built from.
    """

    positions: Tensor | None
    cosines: Tensor | None
    sines: Tensor | None

    def __init__(self, architecture: DiTArchitecture) -> None:
        super().__init__()
        size = architecture.hidden_size
        self.architecture = architecture
        self.num_classes = architecture.num_classes
        self.learn_sigma = architecture.learn_sigma
        self.self_conditioning = architecture.self_conditioning
        self.patch_embedding = nn.Linear(architecture.in_channels * architecture.patch_volume, size)
        self._register_positions()
        self.time_embedding = TimeEmbedding(size, architecture.time_frequencies)
        self.label_embedding = None if self.num_classes is None else nn.Embedding(self.num_classes + 1, size)
        self.blocks = nn.ModuleList(DiTBlock(architecture) for _ in range(architecture.depth))
        self.head = DiTHead(architecture) if architecture.head is not None else None
        self.final = FinalLayer(architecture.of_head if architecture.head is not None else architecture)
        self._initialize()
        self.register_load_state_dict_pre_hook(_split_modulation)  # type: ignore[no-untyped-call]

    @classmethod
    def from_spec(cls, spec: DiTSpec, context: BuildContext) -> "DiT":
        if context.latent_shape is None:
            raise SpecError(f"DiT {spec.size!r} needs to know the shape of its latents, and the context has none")
        model = cls(spec.architecture(context.latent_shape, context.num_classes))
        if spec.pretrained is not None and not context.untrained:
            load_pretrained(model, model.architecture, spec.pretrained)
        model.spec = spec.model_copy(update={"pretrained": None})  # rebuilt without this file
        return model

    def _register_positions(self) -> None:
        grid, size = self.architecture.grid, self.architecture.hidden_size
        positions, cosines, sines = None, None, None
        if self.architecture.positions != "sin-cos":
            cosines, sines = rotary_table(grid, size // self.architecture.num_heads)
        if self.architecture.positions != "rope":
            positions = grid_positions(grid, size)
        self.register_buffer("positions", positions, persistent=False)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)

    @torch.no_grad()
    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for linear in (self.time_embedding.first, self.time_embedding.second):
            nn.init.normal_(linear.weight, std=0.02)
        if self.label_embedding is not None:
            nn.init.normal_(self.label_embedding.weight, std=0.02)
        modulated: list[Any] = [*self.repeated_blocks(), self.final]
        for module in modulated:
            nn.init.zeros_(module.modulation.weight)
        nn.init.zeros_(self.final.linear.weight)

    def repeated_blocks(self) -> Iterable[nn.Module]:
        """The transformer blocks, those of the head last."""
        return (*self.blocks, *(() if self.head is None else self.head.blocks))

    def export(self, directory: Path) -> str | None:
        """With the original's options, as a published checkpoint (``dit/``) or as one of diffusers (``diffusers/``).

        Which of the two depends on ``time_frequencies``, in which they differ.
        """
        return write_exchange(self, self.architecture, directory)

    def forward(
        self, latents: Latents, time: Times, labels: Labels | None, previous_estimate: Latents | None = None
    ) -> Predictions:
        """The prediction. Without labels, a conditional model predicts for "no class".

        Raises:
            DataError: the latents have another shape than it is built for, an unconditional model gets labels, or
                labels on the CPU are out of range.
            ValueError: a model without self-conditioning gets an earlier estimate.
        """
        cut = to_patches(self._inputs(latents, previous_estimate), self.architecture.patch)
        tokens = self.patch_embedding(cut)
        if self.positions is not None:
            tokens = tokens + self.positions
        embedded = self.time_embedding(time)
        condition = F.silu(embedded + self._embed(labels, len(latents)))
        for block in self.blocks:
            tokens = block(tokens, condition, self._rotary)
        if self.head is not None:
            tokens, condition = self.head(cut, tokens, embedded)
        patches = self.final(tokens, condition)
        return from_patches(patches, self.architecture.grid, self.architecture.patch).to(latents.dtype)

    @property
    def _rotary(self) -> RotaryTable | None:
        return None if self.cosines is None or self.sines is None else (self.cosines, self.sines)

    def _inputs(self, latents: Latents, previous_estimate: Latents | None) -> Tensor:
        if tuple(latents.shape[1:]) != self.architecture.latent_shape:
            raise DataError(
                f"this DiT is built for latents of shape {self.architecture.latent_shape!r},"
                f" got {tuple(latents.shape[1:])!r}"
            )
        if self.self_conditioning:
            estimate = torch.zeros_like(latents) if previous_estimate is None else previous_estimate
            return torch.cat([latents, estimate], dim=1)
        if previous_estimate is not None:
            raise ValueError("this DiT takes no earlier estimate: it was built with self_conditioning False")
        return latents

    def _embed(self, labels: Labels | None, batch_size: int) -> Tensor | float:
        if self.label_embedding is None:
            if labels is not None:
                raise DataError("this DiT is unconditional (num_classes is None), and labels were given")
            return 0.0
        assert self.num_classes is not None
        if labels is None:
            labels = torch.full((batch_size,), self.num_classes, device=self.label_embedding.weight.device)
        elif labels.device.type == "cpu" and not torch.compiler.is_compiling():  # on accelerators it would wait
            self._check_range(labels, self.num_classes)
        embedded: Tensor = self.label_embedding(labels)
        return embedded

    @staticmethod
    def _check_range(labels: Labels, num_classes: int) -> None:
        outside = labels[(labels < 0) | (labels > num_classes)]
        if len(outside):
            raise DataError(
                f"label {int(outside[0])!r} is out of range for a DiT of {num_classes} classes; expected 0 to"
                f" {num_classes - 1}, or {num_classes} for 'no class'"
            )


def _split_modulation(model: nn.Module, weights: dict[str, Tensor], prefix: str, *_: object) -> None:
    assert isinstance(model, DiT)
    held = [name for name in weights if name.startswith(f"{prefix}modulation.")]
    renamed = split_modulation({name.removeprefix(prefix): weights.pop(name) for name in held}, model.architecture)
    weights |= {f"{prefix}{name}": value for name, value in renamed.items()}
