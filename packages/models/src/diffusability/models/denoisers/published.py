"""Diffusion transformers in their authors' files, as models of ours: DiT, SiT and LightningDiT.

All are made a ``DiT`` by changes of their weights alone:

* SiT (Ma et al. 2024) and LightningDiT (Yao et al. 2025) count time from noise at 0 to data at 1, embed it without the
  factor 1000, and predict ``z - eps``: the embedding is of ``1 - t``, and the last layer changes its sign. Channels of
  an unused variance are cut off.
* LightningDiT's norms have weights w. ``w n (1 + s) + b`` is ``n (1 + s') + b`` with ``s' = w s + w - 1``, which is
  linear in s, as the modulation that makes it. It rotates neighbouring pairs of a head, rows first; ours rotate pairs
  half a head apart, so that rows of the matrices of queries and keys change places. Hidden units are filled up to whole
  eights, with zeros.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.linear_betas import LinearBetas
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.parametrisation import VELOCITIES, Parametrisation
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.denoisers.dit import DiT
from diffusability.models.denoisers.dit_checkpoints import compare_sizes, imported, unwrapped
from diffusability.models.denoisers.positions import grid_positions
from diffusability.models.specs.denoisers.dit import DiTSpec
from diffusability.models.specs.denoisers.dit_architecture import DiTArchitecture
from diffusability.models.specs.denoisers.published import PublishedDenoiserSpec
from diffusability.models.weight_files import read_weight_file

Weights = dict[str, Tensor]

#: Tables that are computed again, and what only training needs.
_LEFT_OUT = ("feat_rope.",)


def published_denoiser(spec: PublishedDenoiserSpec, context: BuildContext) -> DiT:
    """The denoiser alone."""
    return _converted(spec, context)[0]


def published_model(spec: PublishedDenoiserSpec, context: BuildContext) -> DiffusionModel:
    """The denoiser with the scaling of its latents and what it predicts.

    Raises:
        CheckpointError: the file cannot be read, is of another family or size, or was trained for other latents.
        SpecError: no scaling of the latents is known.
    """
    denoiser, plain = _converted(spec, context)
    shape = denoiser.architecture.latent_shape
    return DiffusionModel(
        denoiser=denoiser,
        normalizer=_normalizer(spec, context, shape[0]),
        latent_shape=shape,
        num_classes=denoiser.num_classes,
        spec=plain,
        parametrisation=Parametrisation(prediction="noise", betas=LinearBetas())
        if spec.family == "dit"
        else VELOCITIES,
    )


def _converted(spec: PublishedDenoiserSpec, context: BuildContext) -> tuple[DiT, DiTSpec]:
    """The model, and the spec that rebuilds it without the file."""
    weights = dict(unwrapped(read_weight_file(spec.path), spec.path))
    if "x_embedder.proj.weight" not in weights:
        raise CheckpointError(
            f"{str(spec.path)!r} does not hold a {spec.family} in its authors' layout: there is no"
            " 'x_embedder.proj.weight'"
        )
    shape = context.latent_shape or latent_shape_of(weights, spec)
    plain = _options(spec, weights)
    architecture = plain.architecture(shape, spec.num_classes)
    extra: Weights = {}
    if spec.family == "lightningdit":
        weights, extra = plain_of_lightning(weights, architecture)
    elif any(name.endswith(("mlp.w12.weight", "norm1.weight")) for name in weights):
        raise CheckpointError(f"{str(spec.path)!r} holds a LightningDiT; expected family: lightningdit")
    if spec.family != "dit":
        _turn(weights, architecture)
    compare_sizes(weights, architecture, "original", spec.path)
    _compare_positions(weights, architecture, spec.path)
    model = DiT(architecture)
    model.load_state_dict(imported(weights, architecture, "original") | extra)
    model.spec = plain
    return model, plain


def latent_shape_of(weights: Mapping[str, Tensor], spec: PublishedDenoiserSpec) -> tuple[int, int, int]:
    """The shape of the square latents that a model was trained on, by the table of its positions.

    Raises:
        SpecError: the file has none.
    """
    if "pos_embed" not in weights:
        raise SpecError(
            f"{str(spec.path)!r} does not say for which latents it was trained; use it where the data has a size"
        )
    channels, patch = weights["x_embedder.proj.weight"].shape[1:3]
    side = round(weights["pos_embed"].shape[1] ** 0.5) * patch
    return channels, side, side


def _options(spec: PublishedDenoiserSpec, weights: Weights) -> DiTSpec:
    """What kind of DiT it is, by the names and shapes of its tensors."""
    if spec.family == "lightningdit":
        return DiTSpec(
            size=spec.size,
            positions="both" if "pos_embed" in weights else "rope",
            norm="rms" if "blocks.0.norm1.weight" in weights else "layer",
            activation="swiglu" if "blocks.0.mlp.w12.weight" in weights else "gelu",
            mlp_ratio=_mlp_ratio(weights),
            qk_norm="blocks.0.attn.q_norm.weight" in weights,
            time_frequencies="sit",
        )
    if spec.family == "sit":
        return DiTSpec(size=spec.size, time_frequencies="sit")
    channels, patch = weights["x_embedder.proj.weight"].shape[1:3]
    return DiTSpec(size=spec.size, learn_sigma=len(weights["final_layer.linear.bias"]) == 2 * channels * patch**2)


def _mlp_ratio(weights: Weights) -> float:
    """Hidden units over width; of SwiGLU, so many that what ``swiglu_size`` makes of them is theirs in whole eights."""
    width = len(weights["x_embedder.proj.bias"])
    gated = weights.get("blocks.0.mlp.w12.bias")
    if gated is None:
        return len(weights["blocks.0.mlp.fc1.bias"]) / width if "blocks.0.mlp.fc1.bias" in weights else 4.0
    return 1.5 * _in_eights(len(gated) // 2) / width


def _in_eights(count: int) -> int:
    return -(-count // 8) * 8


def _turn(weights: Weights, architecture: DiTArchitecture) -> None:
    """Makes ``eps - z`` of ``z - eps``, and cuts off the channels of a variance. Theirs are (row, column, channel)."""
    for kind in ("weight", "bias"):
        name = f"final_layer.linear.{kind}"
        by_place = weights[name].view(architecture.patch_volume, -1, *weights[name].shape[1:])
        weights[name] = -by_place[:, : architecture.latent_shape[0]].flatten(0, 1)


def plain_of_lightning(weights: Mapping[str, Tensor], architecture: DiTArchitecture) -> tuple[Weights, Weights]:
    """A LightningDiT's weights under the names of a DiT, with weights of norms folded; and, under ours, what is left.

    Raises:
        CheckpointError: a block's modulation has another size.
    """
    plain = {name: value for name, value in weights.items() if not name.startswith(_LEFT_OUT)}
    extra: Weights = {}
    order = _order_of_heads(architecture)
    for index in range(architecture.depth):
        block = f"blocks.{index}"
        for kind in ("weight", "bias"):
            name = f"{block}.attn.qkv.{kind}"
            if name in plain:
                queries, keys, values = plain[name].chunk(3)
                plain[name] = torch.cat([queries[order], keys[order], values])
        if architecture.activation == "swiglu":
            plain |= _swiglu(plain, f"{block}.mlp")
        _fold(plain, f"{block}.adaLN_modulation.1", [f"{block}.norm1.weight", f"{block}.norm2.weight"])
        if architecture.qk_norm:
            head = order[: architecture.hidden_size // architecture.num_heads]
            for theirs, ours in (("q_norm", "query_scale"), ("k_norm", "key_scale")):
                extra[f"{block}.attention.{ours}"] = plain.pop(f"{block}.attn.{theirs}.weight")[head]
    _fold(plain, "final_layer.adaLN_modulation.1", ["final_layer.norm_final.weight"])
    return plain, extra


def _swiglu(weights: Weights, name: str) -> Weights:
    """A SwiGLU MLP, taken out of the weights, with hidden units in whole eights: further ones are 0, and stay so."""
    hidden = len(weights[f"{name}.w12.bias"]) // 2
    missing = _in_eights(hidden) - hidden
    made: Weights = {}
    for kind in ("weight", "bias"):
        halves = weights.pop(f"{name}.w12.{kind}").chunk(2)
        padding = halves[0].new_zeros(missing, *halves[0].shape[1:])
        made[f"{name}.fc1.{kind}"] = torch.cat([halves[0], padding, halves[1], padding])
    made[f"{name}.fc2.weight"] = F.pad(weights.pop(f"{name}.w3.weight"), (0, missing))
    made[f"{name}.fc2.bias"] = weights.pop(f"{name}.w3.bias")
    return made


def _order_of_heads(architecture: DiTArchitecture) -> Tensor:
    """Which of their rows of a matrix of queries or keys is each of ours."""
    size = architecture.hidden_size // architecture.num_heads
    pairs = torch.arange(size).view(2, size // 4, 2)  # of rows, of columns; neighbours
    head = torch.cat([pairs[..., 0].flatten(), pairs[..., 1].flatten()])
    return (torch.arange(architecture.num_heads)[:, None] * size + head).flatten()


def _fold(weights: Weights, modulation: str, norms: list[str]) -> None:
    """Puts weights of norms into the modulation behind them: its parts are shift and scale, and a gate in blocks.

    Modulations without shifts get shifts of 0.
    """
    matrix, bias = weights[f"{modulation}.weight"], weights[f"{modulation}.bias"]
    width = matrix.shape[1]
    parts = len(bias) // width
    whole, without_shifts = (6, 4) if len(norms) == 2 else (2, 1)
    if parts not in (whole, without_shifts):
        raise CheckpointError(
            f"{modulation!r} makes {parts} vectors; expected {whole}, or {without_shifts} without shifts"
        )
    matrices, biases = list(matrix.chunk(parts)), list(bias.chunk(parts))
    if parts == without_shifts:
        for place in (0, 3)[: len(norms)]:
            matrices.insert(place, torch.zeros_like(matrices[0]))
            biases.insert(place, torch.zeros_like(biases[0]))
    for norm, place in zip(norms, (1, 4), strict=False):
        if norm in weights:
            scale = weights.pop(norm)
            matrices[place] = scale[:, None] * matrices[place]
            biases[place] = scale * biases[place] + scale - 1
    weights[f"{modulation}.weight"], weights[f"{modulation}.bias"] = torch.cat(matrices), torch.cat(biases)


def _compare_positions(weights: Mapping[str, Tensor], architecture: DiTArchitecture, path: Path) -> None:
    table = weights.get("pos_embed")
    if table is None:
        return
    ours = grid_positions(architecture.grid, architecture.hidden_size)
    if table.shape[1:] != ours.shape:
        raise CheckpointError(
            f"{str(path)!r} was trained for {table.shape[1]} patches, and latents of shape"
            f" {architecture.latent_shape!r} have {len(ours)}; expected data of the size that it was trained on"
        )
    if not torch.allclose(table[0], ours, atol=1e-3):
        raise CheckpointError(f"{str(path)!r} has positions that are not the sinusoids of its family")


def _normalizer(spec: PublishedDenoiserSpec, context: BuildContext, channels: int) -> LatentNormalizer:
    if spec.statistics is not None:
        values = read_weight_file(spec.statistics)
        if not {"mean", "std"} <= values.keys() or {values["mean"].numel(), values["std"].numel()} != {channels}:
            raise CheckpointError(f"{str(spec.statistics)!r} does not hold 'mean' and 'std' of {channels} channels")
        return LatentNormalizer(values["mean"].flatten(), values["std"].flatten())
    normalizer = build_autoencoder(spec.autoencoder, context).published_normalizer()
    if normalizer is None:
        raise SpecError(
            f"autoencoder {spec.autoencoder.kind!r} comes with no scaling of its latents; name a file with mean and std"
            " as statistics"
        )
    return normalizer
