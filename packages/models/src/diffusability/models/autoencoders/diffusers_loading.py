"""Builds autoencoders of diffusers: random ones from a configuration, trained ones from a folder or the hub."""

import json
from pathlib import Path
from typing import Any

import torch

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.weight_prefixes import without_prefix
from diffusability.models.autoencoders.cached_causal_autoencoder import CACHED_CLASSES, CachedCausalAutoencoder
from diffusability.models.autoencoders.diffusers_autoencoder import DiffusersAutoencoder
from diffusability.models.specs.autoencoders.diffusers import DiffusersFamilySpec, DiffusersSpec
from diffusability.models.specs.autoencoders.diffusers_layout import class_of, read_config, weight_files
from diffusability.models.weight_files import TORCH_SUFFIXES, read_weight_file


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
    _divide(model, spec)
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


def _filled_behind_prefix(model: Any, files: list[Path]) -> bool:
    """Fills a model with weights whose names a wrapper has put a prefix before; False where there is none."""
    weights = {name: tensor for file in files for name, tensor in read_weight_file(file).items()}
    expected = model.state_dict()
    found = without_prefix(weights, expected, files[0])
    if not set(expected) <= set(found) or any(found[name].shape != expected[name].shape for name in expected):
        return False
    model.load_state_dict({name: found[name] for name in expected})
    return True


def _first(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:3])


def _fetched(spec: DiffusersFamilySpec, hub_id: str) -> Path:
    """The folder with an autoencoder from the hub, fetched unless it is in the cache already."""
    from huggingface_hub import snapshot_download

    below = f"{spec.subfolder}/" if spec.subfolder else ""
    wanted = [f"{below}config.json", f"{below}diffusion_pytorch_model*.safetensors*"]
    try:
        root = snapshot_download(hub_id, revision=spec.revision, allow_patterns=wanted)
    except Exception as error:  # noqa: BLE001 - the hub's client raises errors of several libraries
        raise CheckpointError(
            f"{hub_id!r} is not a local folder, and cannot be fetched from the hub: {type(error).__name__}:"
            f" {_first(error)}; download it elsewhere and give its folder as path"
        ) from None
    return Path(root) / (spec.subfolder or "")


def _divide(model: Any, spec: DiffusersFamilySpec) -> None:
    for wanted, method in ((spec.tiling, "enable_tiling"), (spec.slicing, "enable_slicing")):
        if wanted:
            try:
                getattr(model, method)()
            except (AttributeError, NotImplementedError):
                raise SpecError(f"{type(model).__name__} of diffusers has no {method}()") from None
    if spec.tiling:
        for name in ("use_framewise_encoding", "use_framewise_decoding"):
            if hasattr(model, name):
                setattr(model, name, True)
