"""Autoencoders as people have them: by name, in files, or as objects."""

from pathlib import Path
from typing import Any

import attrs
import torch

from diffusability.core.contracts.autoencoder import Autoencoder, build_autoencoder
from diffusability.core.errors import SpecError
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.plugins import registry
from diffusability.core.scoring.named_autoencoders import Named, check_named, named_autoencoders
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec


def load_autoencoder(
    autoencoder: Any,
    *,
    device: torch.device | str | None = None,
    seed: int = 0,
    probe: tuple[int, ...] | None = None,
    trust_code: bool = False,
) -> Autoencoder:
    """An autoencoder from anything that names one, with ``encode(images)``, ``decode(latents)`` and ``info``.

    Args:
        autoencoder: what ``dfz score`` takes (``"flux:weights/vae"``, ``"taesd:weights"``, ``"my_file.py:build"``, a
            folder or a file of weights, ``"owner/name"`` of the Hugging Face hub, the folder of a run); an
            ``Autoencoder``; or any object with ``encode`` and ``decode``, or a pair of such functions, whatever they
            return: tensors, pairs of mean and log variance, distributions, outputs of diffusers.
        device: where it goes; default: where its weights are.
        seed: of weights that are drawn at random; as that of ``dfz score``.
        probe: shape ``(c, h, w)`` or ``(c, t, h, w)`` of an input that an object takes; default: several are tried.
        trust_code: let code run that a saved model carries.

    Returns:
        An autoencoder that was loaded is in eval mode. An object is wrapped, not copied: its weights stay shared and
        its mode as it is.

    Raises:
        SpecError: nothing is found under that name, or several are.
        PluginError: an object does not encode or decode.
    """
    if isinstance(autoencoder, str | Path):
        made = build_named(the_named(str(autoencoder), trust_code), seed).eval()
    elif isinstance(autoencoder, AutoencoderSpec):
        made = build_spec(autoencoder, seed).eval()
    else:
        made = wrapped(autoencoder, probe)
    return made if device is None else made.to(device)


def the_named(reference: str, trust_code: bool = False) -> Named:
    """The one autoencoder that a reference stands for; looks for its files. Raises SpecError for none or several."""
    named, *others = named_autoencoders([reference], trust_code)
    if others:
        labels = ", ".join(f"{each.label} ({each.spec.get('path')})" for each in (named, *others))
        raise SpecError(f"{reference!r} stands for several autoencoders; expected one of the folders: {labels}")
    check_named(named)
    return named


def build_named(named: Named, seed: int = 0) -> Autoencoder:
    """Builds what a reference stands for."""
    return build_spec(AutoencoderSpec.model_validate(named.spec), seed)


def build_spec(spec: AutoencoderSpec, seed: int = 0) -> Autoencoder:
    """Builds a spec. Weights that are drawn at random are those that ``dfz score`` draws with this seed."""
    drawn = derived_seed(seed, "random weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(drawn)
        return build_autoencoder(spec, attrs.evolve(BuildContext(), seed=drawn))


def wrapped(autoencoder: Any, probe: tuple[int, ...] | None = None) -> Autoencoder:
    """An object behind the contract of an autoencoder; one that fulfils it is left as it is."""
    if isinstance(autoencoder, Autoencoder):
        return autoencoder
    made: Autoencoder = registry.function("wrap_autoencoder")(autoencoder, probe)
    return made
