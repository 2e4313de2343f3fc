"""Builds autoencoders of diffusers: random ones from a configuration, trained ones from a folder or the hub."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.weight_prefixes import without_prefix
from diffusability.models.autoencoders.cached_causal_autoencoder import CACHED_CLASSES, CachedCausalAutoencoder
from diffusability.models.autoencoders.diffusers_autoencoder import DiffusersAutoencoder
from diffusability.models.specs.autoencoders.diffusers import DiffusersFamilySpec, DiffusersSpec
from diffusability.models.specs.autoencoders.diffusers_classes import LAYOUTS, Layout
from diffusability.models.specs.autoencoders.diffusers_layout import (
    class_of,
    folder_within,
    read_config,
    variant_of,
    weight_files,
)
from diffusability.models.specs.autoencoders.single_file import READ_BY_NAME, autoencoder_names
from diffusability.models.weight_files import TORCH_SUFFIXES, read_tensors, read_weight_file, tensor_shapes


def build_diffusers(spec: DiffusersFamilySpec, context: BuildContext | None = None) -> Autoencoder:
    """The autoencoder of a spec, which remembers a spec that rebuilds it without the original files.

    Raises:
        CheckpointError: files are missing, cut short, a pickle of more than weights, or not what was expected.
        SpecError: the class offers no tiling, or no patches of latents.
    """
    if context is not None and context.untrained and spec.path is not None:
        settings = {name: getattr(spec, name) for name in ("dtype", "tiling", "slicing")}
        spec = DiffusersSpec(config=spec.architecture(), patchify=spec.patchifies(), **settings)
    model = _load(spec) if spec.path is not None else _random(spec.untrained())
    written = json.loads(model.to_json_string())
    config = {key: value for key, value in written.items() if key != "_name_or_path"}  # a place on this machine
    if spec.patchifies() and config["_class_name"] != "AutoencoderKLFlux2":
        raise SpecError(f"patchify is for AutoencoderKLFlux2, and {spec.path!r} holds an {config['_class_name']}")
    if spec.dtype != "float32":
        model = model.to(getattr(torch, spec.dtype))
    if spec.dtype == "float16":  # the published ones overflow in it, and several operations lack it on the CPU
        model = model.float()
    _divide(model, spec, LAYOUTS[config["_class_name"]])
    kind = CachedCausalAutoencoder if config["_class_name"] in CACHED_CLASSES else DiffusersAutoencoder
    autoencoder = kind(model=model, config=config, patchify=spec.patchifies())
    autoencoder.spec = DiffusersSpec(
        config=config, patchify=spec.patchifies(), dtype=spec.dtype, tiling=spec.tiling, slicing=spec.slicing
    )
    return autoencoder


def _class(name: str) -> Any:
    import diffusers

    try:
        return getattr(diffusers, name)
    except AttributeError:
        raise SpecError(
            f"diffusers {diffusers.__version__} has no class {name}; install a newer one: pip install -U diffusers"
        ) from None


def _random(config: dict[str, Any]) -> Any:
    given = {key: value for key, value in config.items() if not key.startswith("_")}
    return _class(config["_class_name"]).from_config(given)


def _load(spec: DiffusersFamilySpec) -> Any:
    assert spec.path is not None
    file = spec.file()
    if file is not None:
        return _from_file(spec, file)
    folder = spec.folder() or _fetched(spec, spec.path)
    config = read_config(folder)
    spec.check_class(config, repr(str(folder)))
    files = weight_files(folder)
    if files[0].suffix in TORCH_SUFFIXES:
        read_weight_file(files[0])  # refuses a pickle of more than weights, with a sentence
    try:
        model, loaded = _class(class_of(config, repr(str(folder)))).from_pretrained(
            folder,
            use_safetensors=files[0].suffix == ".safetensors",
            variant=variant_of(files[0]),
            torch_dtype=torch.float32,
            low_cpu_mem_usage=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # noqa: BLE001 - diffusers raises what its constructors do
        raise CheckpointError(f"the weights in {str(folder)!r} do not fit its config.json: {_first(error)}") from None
    if loaded["missing_keys"] and _filled_behind_prefix(model, files):
        return model
    wrong = {name: loaded[name] for name in ("missing_keys", "mismatched_keys") if loaded[name]}
    if wrong:
        raise CheckpointError(
            f"the weights in {str(folder)!r} do not fit its config.json: "
            + "; ".join(f"{name.replace('_', ' ')}: {sorted(map(str, keys))[:3]}" for name, keys in wrong.items())
        )
    return model


def _from_file(spec: DiffusersFamilySpec, file: Path) -> Any:
    """A model with the weights of a single file: by names, or by the conversion that diffusers has for the class."""
    config = spec.config_of_file(file)
    spec.check_class(config, repr(str(file)))
    model = _random(config)
    expected = model.state_dict()
    if config["_class_name"] in READ_BY_NAME:
        tensors = read_tensors(file, autoencoder_names(tensor_shapes(file), file))
    else:
        weights = without_prefix(read_weight_file(file), expected, file)
        tensors = weights if set(expected) <= set(weights) else _converted(weights, config, file)
    # LDM's attentions are convolutions of single pixels, and diffusers' are linear layers.
    fitting = {
        name: value.flatten(1) if name in expected and expected[name].ndim == 2 else value
        for name, value in tensors.items()
    }
    optional = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = sorted(set(expected) - set(fitting) - optional)
    shapes = sorted(name for name in set(expected) & set(fitting) if expected[name].shape != fitting[name].shape)
    for what, names in (("missing", missing), ("of another shape", shapes)):
        if names:
            raise CheckpointError(
                f"the weights in {str(file)!r} do not fit {config['_class_name']}: {what}: {', '.join(names[:3])}"
                f" ({len(names)} in all)"
            )
    model.load_state_dict({name: value for name, value in fitting.items() if name in expected}, strict=False)
    return model


def _converted(weights: dict[str, Tensor], config: dict[str, Any], file: Path) -> dict[str, Tensor]:
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    entry: Any = SINGLE_FILE_LOADABLE_CLASSES.get(config["_class_name"])
    if entry is None:
        raise CheckpointError(
            f"{str(file)!r} does not hold the weights of {config['_class_name']} under diffusers' names, and diffusers"
            " has no conversion for that class; expected a folder with a config.json"
        )
    try:
        converted: dict[str, Tensor] = entry["checkpoint_mapping_fn"](checkpoint=dict(weights), config=config)
    except Exception as error:  # noqa: BLE001 - conversions look names up and raise what that raises
        raise CheckpointError(
            f"{str(file)!r} holds weights of another layout than {config['_class_name']}'s: {type(error).__name__}:"
            f" {_first(error)}"
        ) from None
    return converted


def _filled_behind_prefix(model: Any, files: list[Path]) -> bool:
    """Fills a model with weights whose names a wrapper has put a prefix before; False where there is none."""
    weights = {name: tensor for file in files for name, tensor in read_weight_file(file).items()}
    expected = model.state_dict()
    unprefixed = without_prefix(weights, expected, files[0])
    if not set(expected) <= set(unprefixed) or any(unprefixed[name].shape != expected[name].shape for name in expected):
        return False
    model.load_state_dict({name: unprefixed[name] for name in expected})
    return True


def _first(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:3])


def _fetched(spec: DiffusersFamilySpec, hub_id: str) -> Path:
    """The folder with an autoencoder from the hub, fetched unless it is in the cache already."""
    from huggingface_hub import snapshot_download

    places = [f"{spec.subfolder}/"] if spec.subfolder else ["", "vae/"]  # in a whole pipeline, 'vae'
    names = ("config.json", "diffusion_pytorch_model*.safetensors*")
    wanted = [place + name for place in places for name in names]
    try:
        root = snapshot_download(hub_id, revision=spec.revision, allow_patterns=wanted)
    except Exception as error:  # noqa: BLE001 - the hub's client raises errors of several libraries
        raise CheckpointError(
            f"{hub_id!r} is not a local folder, and cannot be fetched from the hub: {type(error).__name__}:"
            f" {_first(error)}; download it elsewhere and give its folder as path"
        ) from None
    return folder_within(Path(root), spec.subfolder)


def _divide(model: Any, spec: DiffusersFamilySpec, layout: Layout) -> None:
    name = type(model).__name__
    if spec.tiling is False and layout.tiled:
        try:
            model.disable_tiling()
        except (AttributeError, NotImplementedError):
            raise SpecError(f"{name} of diffusers has no disable_tiling()") from None
    tiled = layout.tiled if spec.tiling is None else spec.tiling
    if spec.tiling is None and tiled:
        print(f"note: {name} runs in overlapping tiles, as it was published", file=sys.stderr)
    for wanted, method in ((tiled, "enable_tiling"), (spec.slicing, "enable_slicing")):
        if wanted:
            try:
                getattr(model, method)()
            except (AttributeError, NotImplementedError):
                raise SpecError(f"{name} of diffusers has no {method}()") from None
    if tiled:
        for setting in ("use_framewise_encoding", "use_framewise_decoding"):
            if hasattr(model, setting):
                setattr(model, setting, True)
