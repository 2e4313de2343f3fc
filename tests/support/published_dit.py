"""The published DiT in plain torch: random weights in its layout, and its function written out."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

DEPTH, WIDTH, HEADS, CLASSES, CHANNELS, SIDE = 2, 32, 2, 5, 4, 8


def published_weights(outputs: int = 2 * CHANNELS) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of a published checkpoint."""
    generator = torch.Generator().manual_seed(3)

    def linear(name: str, inputs: int, out: int) -> dict[str, Tensor]:
        return {
            f"{name}.weight": torch.randn(out, inputs, generator=generator) / inputs**0.5,
            f"{name}.bias": 0.1 * torch.randn(out, generator=generator),
        }

    weights = {"pos_embed": torch.zeros(1, 16, WIDTH)} | linear("x_embedder.proj", CHANNELS * 4, WIDTH)
    weights["x_embedder.proj.weight"] = weights["x_embedder.proj.weight"].view(WIDTH, CHANNELS, 2, 2)
    weights |= linear("t_embedder.mlp.0", 256, WIDTH) | linear("t_embedder.mlp.2", WIDTH, WIDTH)
    weights["y_embedder.embedding_table.weight"] = torch.randn(CLASSES + 1, WIDTH, generator=generator)
    for index in range(DEPTH):
        block = f"blocks.{index}"
        weights |= linear(f"{block}.attn.qkv", WIDTH, 3 * WIDTH) | linear(f"{block}.attn.proj", WIDTH, WIDTH)
        weights |= linear(f"{block}.mlp.fc1", WIDTH, 4 * WIDTH) | linear(f"{block}.mlp.fc2", 4 * WIDTH, WIDTH)
        weights |= linear(f"{block}.adaLN_modulation.1", WIDTH, 6 * WIDTH)
    weights |= linear("final_layer.adaLN_modulation.1", WIDTH, 2 * WIDTH)
    return weights | linear("final_layer.linear", WIDTH, 4 * outputs)


def original_forward(w: dict[str, Tensor], x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The original's function of integer times t in [0, 1000), in plain torch: one sum after the other."""

    def linear(name: str, value: Tensor) -> Tensor:
        return value @ w[f"{name}.weight"].flatten(1).T + w[f"{name}.bias"]

    def norm(value: Tensor) -> Tensor:
        return F.layer_norm(value, (WIDTH,), eps=1e-6)

    rows = SIDE // 2
    tokens = F.conv2d(x, w["x_embedder.proj.weight"], w["x_embedder.proj.bias"], stride=2).flatten(2).mT
    positions = torch.zeros(rows * rows, WIDTH)
    for cell in range(rows * rows):  # first the column, then the row: np.meshgrid(grid_w, grid_h), "here w goes first"
        for half, place in enumerate((cell % rows, cell // rows)):
            for k in range(WIDTH // 4):
                angle = place / 10000 ** (k / (WIDTH // 4))
                positions[cell, half * WIDTH // 2 + k] = math.sin(angle)
                positions[cell, half * WIDTH // 2 + WIDTH // 4 + k] = math.cos(angle)
    tokens = tokens + positions
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(128) / 128)
    embedded = linear(
        "t_embedder.mlp.2", F.silu(linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], 1)))
    )
    c = F.silu(embedded + w["y_embedder.embedding_table.weight"][y])
    for index in range(DEPTH):
        block = f"blocks.{index}"
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(f"{block}.adaLN_modulation.1", c)[:, None].chunk(6, 2)
        h = linear(f"{block}.attn.qkv", norm(tokens) * (1 + scale1) + shift1)
        q, k, v = h.view(len(x), -1, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q @ k.mT / (WIDTH // HEADS) ** 0.5, -1) @ v
        tokens = tokens + gate1 * linear(f"{block}.attn.proj", mixed.transpose(1, 2).flatten(2))
        h = F.gelu(linear(f"{block}.mlp.fc1", norm(tokens) * (1 + scale2) + shift2), approximate="tanh")
        tokens = tokens + gate2 * linear(f"{block}.mlp.fc2", h)
    shift, scale = linear("final_layer.adaLN_modulation.1", c)[:, None].chunk(2, 2)
    patches = linear("final_layer.linear", norm(tokens) * (1 + scale) + shift)
    image = patches.view(len(x), rows, rows, 2, 2, -1)
    return torch.einsum("nhwpqc->nchpwq", image).reshape(len(x), -1, SIDE, SIDE)
