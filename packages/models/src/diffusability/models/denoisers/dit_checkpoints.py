"""Weights of DiTs in the layouts of others: of the published checkpoints (Peebles & Xie 2023) and of diffusers."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from diffusability.core.errors import CheckpointError
from diffusability.core.weight_prefixes import without_prefix
from diffusability.models.specs.denoisers.dit_architecture import DiTArchitecture
from diffusability.models.weight_files import read_weight_file

Weights = Mapping[str, Tensor]
Layout = Literal["original", "diffusers"]

#: Our name of a module, the original's, and that of diffusers, outside of the blocks.
_OUTSIDE = (
    ("patch_embedding", "x_embedder.proj", "pos_embed.proj"),
    ("time_embedding.first", "t_embedder.mlp.0", "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1"),
    ("time_embedding.second", "t_embedder.mlp.2", "transformer_blocks.0.norm1.emb.timestep_embedder.linear_2"),
    ("final.linear", "final_layer.linear", "proj_out_2"),
    ("final.modulation", "final_layer.adaLN_modulation.1", "proj_out_1"),
)
_LABELS = (
    "label_embedding.weight",
    "y_embedder.embedding_table.weight",
    "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight",
)
#: The same within a block.
_INSIDE = (
    ("modulation", "adaLN_modulation.1", "norm1.linear"),
    ("attention.projection", "attn.proj", "attn1.to_out.0"),
    ("mlp.first", "mlp.fc1", "ff.net.0.proj"),
    ("mlp.second", "mlp.fc2", "ff.net.2"),
)
_BLOCKS = {"original": "blocks", "diffusers": "transformer_blocks"}
_KINDS = ("weight", "bias")
#: Fixed, and computed again.
_IGNORED = {"pos_embed", "pos_embed.pos_embed"}


def layout_of(weights: Weights) -> Layout | None:
    """Whose names these are; None for ours and for unknown ones."""
    if "x_embedder.proj.weight" in weights:
        return "original"
    return "diffusers" if "pos_embed.proj.weight" in weights else None


def _names(architecture: DiTArchitecture, layout: Layout) -> dict[str, str]:
    """Our names of the tensors that are stored alike, and theirs."""
    column = 1 if layout == "original" else 2
    pairs = [(row[0], row[column]) for row in _OUTSIDE]
    for index in range(architecture.depth):
        pairs += [(f"blocks.{index}.{row[0]}", f"{_BLOCKS[layout]}.{index}.{row[column]}") for row in _INSIDE]
        if layout == "original":
            pairs.append((f"blocks.{index}.attention.qkv", f"blocks.{index}.attn.qkv"))
    names = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in pairs for kind in _KINDS}
    return names | ({} if architecture.num_classes is None else {_LABELS[0]: _LABELS[column]})


def _channels_last(values: Tensor, architecture: DiTArchitecture) -> Tensor:
    """Outputs of a token from our order (channel, row, column) to theirs (row, column, channel)."""
    return values.view(architecture.out_channels, -1, *values.shape[1:]).transpose(0, 1).flatten(0, 1)


def _channels_first(values: Tensor, architecture: DiTArchitecture) -> Tensor:
    return values.view(-1, architecture.out_channels, *values.shape[1:]).transpose(0, 1).flatten(0, 1)


def exported(weights: Weights, architecture: DiTArchitecture, layout: Layout) -> dict[str, Tensor]:
    """Our weights under their names. The architecture must be one that the layout can hold."""
    theirs = {name: weights[ours] for ours, name in _names(architecture, layout).items()}
    patch = f"{_OUTSIDE[0][1 if layout == 'original' else 2]}.weight"
    theirs[patch] = theirs[patch].reshape(-1, architecture.latent_shape[0], *architecture.patch)
    for kind in _KINDS:
        final = f"{_OUTSIDE[3][1 if layout == 'original' else 2]}.{kind}"
        theirs[final] = _channels_last(theirs[final], architecture)
        if layout == "diffusers":
            for index in range(architecture.depth):
                qkv = weights[f"blocks.{index}.attention.qkv.{kind}"].chunk(3)
                attention = f"transformer_blocks.{index}.attn1.to_"
                theirs |= {f"{attention}{letter}.{kind}": part for letter, part in zip("qkv", qkv, strict=True)}
    if layout == "diffusers":  # every block has a copy of the embeddings
        shared = {name: value for name, value in theirs.items() if ".0.norm1.emb." in name}
        for index in range(1, architecture.depth):
            theirs |= {name.replace(".0.", f".{index}.", 1): value for name, value in shared.items()}
    return {name: value.contiguous() for name, value in theirs.items()}


def imported(weights: Weights, architecture: DiTArchitecture, layout: Layout) -> dict[str, Tensor]:
    """Their weights under our names. Raises CheckpointError when a tensor is missing or one is left over."""
    used: set[str] = set()

    def take(name: str) -> Tensor:
        used.add(name)
        if name not in weights:
            raise CheckpointError(f"{name!r} is missing among the {len(weights)} tensors of the checkpoint")
        return weights[name]

    ours = {name: take(theirs) for name, theirs in _names(architecture, layout).items()}
    ours["patch_embedding.weight"] = ours["patch_embedding.weight"].flatten(1)
    for kind in _KINDS:
        ours[f"final.linear.{kind}"] = _channels_first(ours[f"final.linear.{kind}"], architecture)
        if layout == "diffusers":
            for index in range(architecture.depth):
                attention = f"transformer_blocks.{index}.attn1.to_"
                ours[f"blocks.{index}.attention.qkv.{kind}"] = torch.cat(
                    [take(f"{attention}{letter}.{kind}") for letter in "qkv"]
                )
    copies = re.compile(r"transformer_blocks\.\d+\.norm1\.emb\.")
    left = [name for name in weights if name not in used | _IGNORED and not copies.match(name)]
    if left:
        raise CheckpointError(
            f"the checkpoint has {len(left)} tensors that this DiT does not have, such as {left[0]!r}"
        )
    return ours


def load_pretrained(model: nn.Module, architecture: DiTArchitecture, path: Path) -> None:
    """Fills a DiT with the weights of a file: published, of diffusers, or of our own names.

    Raises:
        CheckpointError: it cannot be read, or is of another size, of which both are named.
    """
    weights = unwrapped(read_weight_file(path), path)
    layout = layout_of(weights)
    if layout is None:
        ours = {name.removeprefix("denoiser."): value for name, value in weights.items() if "normalizer." not in name}
        ours = split_modulation(ours, architecture)
    else:
        compare_sizes(weights, architecture, layout, path)
        if not architecture.is_original:
            raise CheckpointError(
                f"{str(path)!r} has the layout of {_WORDS[layout]}, which has only the original's options;"
                f" this DiT differs: {architecture.differences}"
            )
        ours = imported(weights, architecture, layout)
    _fill(model, ours, path)


#: Tensors by which each layout is known.
_MARKS = ("x_embedder.proj.weight", "pos_embed.proj.weight", "patch_embedding.weight")


def unwrapped(weights: Weights, path: Path) -> Weights:
    """The weights without a prefix that a wrapper put before all names. Raises CheckpointError for an autoencoder."""
    parts = ("encoder.", "quant_conv.", "first_stage_model.encoder.")
    if any(name.startswith(parts) for name in weights) and not any(name.endswith(_MARKS) for name in weights):
        raise CheckpointError(f"{str(path)!r} holds the weights of an autoencoder; expected those of a DiT")
    for mark in _MARKS:
        unwrapped = without_prefix(weights, (mark,), path)
        if mark in unwrapped:
            return unwrapped
    return weights


_WORDS = {"original": "the published DiTs", "diffusers": "diffusers' DiTTransformer2DModel"}


def compare_sizes(weights: Weights, architecture: DiTArchitecture, layout: Layout, path: Path) -> None:
    """Raises CheckpointError when a file in a layout of others is of another size; names all that differs."""
    patch = weights["x_embedder.proj.weight" if layout == "original" else "pos_embed.proj.weight"]
    depth = len({name.split(".")[1] for name in weights if name.startswith(f"{_BLOCKS[layout]}.")})
    labels = weights.get(_LABELS[1 if layout == "original" else 2])
    outputs = len(weights["final_layer.linear.bias" if layout == "original" else "proj_out_2.bias"])
    stored = {
        "blocks": depth,
        "width": patch.shape[0],
        "latent channels": patch.shape[1],
        "patch size": patch.shape[-1],
        "classes": None if labels is None else len(labels) - 1,
        "output channels": outputs // patch.shape[-1] ** 2,
    }
    built = {
        "blocks": architecture.depth,
        "width": architecture.hidden_size,
        "latent channels": architecture.latent_shape[0],
        "patch size": architecture.patch_size,
        "classes": architecture.num_classes,
        "output channels": architecture.out_channels,
    }
    differ = [f"{name} {stored[name]!r} against {built[name]!r}" for name in stored if stored[name] != built[name]]
    if differ:
        raise CheckpointError(
            f"{str(path)!r} is of another size than this DiT (checkpoint against model): {', '.join(differ)}"
        )


def _fill(model: nn.Module, weights: Weights, path: Path) -> None:
    own: dict[str, Tensor] = model.state_dict()
    for name in [*own, *weights]:
        expected, actual = (tuple(held[name].shape) if name in held else None for held in (own, weights))
        if expected != actual:
            raise CheckpointError(
                f"{str(path)!r} does not fit this DiT: {name!r} has shape {actual!r} in the checkpoint,"
                f" and {expected!r} in the model"
            )
    model.load_state_dict(dict(weights))


def write_exchange(model: nn.Module, architecture: DiTArchitecture, directory: Path) -> str | None:
    """Writes the weights under the names of the original or of diffusers; returns the folder's name, or None."""
    if not architecture.is_original:
        return None
    layout: Layout = "original" if architecture.time_frequencies == "dit" else "diffusers"
    weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    name, file = ("dit", "model.safetensors") if layout == "original" else ("diffusers", DIFFUSERS_WEIGHTS)
    folder = directory / name
    folder.mkdir(parents=True)
    save_file({key: value.clone() for key, value in exported(weights, architecture, layout).items()}, folder / file)
    config = _original_config(architecture) if layout == "original" else _diffusers_config(architecture)
    (folder / "config.json").write_text(json.dumps(config, indent=2, allow_nan=False) + "\n")
    return name


DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"


def _original_config(architecture: DiTArchitecture) -> dict[str, Any]:
    """The arguments of the original's ``DiT`` class."""
    return {
        "input_size": architecture.latent_shape[-1],
        "patch_size": architecture.patch_size,
        "in_channels": architecture.latent_shape[0],
        "hidden_size": architecture.hidden_size,
        "depth": architecture.depth,
        "num_heads": architecture.num_heads,
        "mlp_ratio": 4.0,
        "num_classes": architecture.num_classes,
        "learn_sigma": architecture.learn_sigma,
    }


def _diffusers_config(architecture: DiTArchitecture) -> dict[str, Any]:
    return {
        "_class_name": "DiTTransformer2DModel",
        "num_attention_heads": architecture.num_heads,
        "attention_head_dim": architecture.hidden_size // architecture.num_heads,
        "in_channels": architecture.latent_shape[0],
        "out_channels": architecture.out_channels,
        "num_layers": architecture.depth,
        "sample_size": architecture.latent_shape[-1],
        "patch_size": architecture.patch_size,
        "num_embeds_ada_norm": architecture.num_classes,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
    }


def split_modulation(weights: Mapping[str, Tensor], architecture: DiTArchitecture) -> dict[str, Tensor]:
    """Our weights with a modulation for each block and for the end, where one matrix held them all; others as they are.

    Raises:
        CheckpointError: the matrix is of another depth or width.
    """
    size, depth = architecture.hidden_size, architecture.depth
    modules = [*(f"blocks.{index}" for index in range(depth)), "final"]
    split: dict[str, Tensor] = {}
    for name, value in weights.items():
        if not name.startswith("modulation."):
            split[name] = value
            continue
        if len(value) != (6 * depth + 2) * size:
            raise CheckpointError(
                f"{name!r} has {len(value)} rows; expected {(6 * depth + 2) * size} for {depth} blocks of width {size}"
            )
        parts = torch.split(value, [6 * size] * depth + [2 * size])
        split |= {f"{module}.{name}": part for module, part in zip(modules, parts, strict=True)}
    return split
