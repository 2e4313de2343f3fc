"""Exports trained autoencoders."""

import json
import shutil
from pathlib import Path

import attrs

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.models.exporting.evidence import Scaling, evidence_of
from diffusability.core.models.exporting.model_card import autoencoder_card
from diffusability.core.models.saved_models import load_autoencoder
from diffusability.core.reading import parsed_json
from diffusability.core.run.selection import TrainedModel


def export_autoencoder(model: TrainedModel, directory: Path, trust_code: bool = False) -> None:
    """Writes an autoencoder in its exchange format, its scaling of latents, and a model card.

    Raises:
        CheckpointError: the saved model cannot be read.
    """
    autoencoder = load_autoencoder(model.model, trust_code).eval()
    autoencoder.export(directory)
    evidence = evidence_of(model)
    scaling = evidence.scaling or _published(autoencoder)
    if scaling is not None:
        (directory / "latent_normalizer.json").write_text(
            json.dumps(attrs.asdict(scaling), indent=2, allow_nan=False) + "\n"
        )
    if evidence.finer_scaling is not None:
        shutil.copyfile(evidence.finer_scaling, directory / "latent_normalizer.safetensors")
    card = autoencoder_card(
        model,
        attrs.evolve(evidence, scaling=scaling),
        library=autoencoder.exchange_library(),
        class_name=_class_name(autoencoder, directory),
        facts=_facts(autoencoder),
    )
    (directory / "README.md").write_text(card)


def _published(autoencoder: Autoencoder) -> Scaling | None:
    normalizer = autoencoder.published_normalizer()
    if normalizer is None:
        return None
    source = "published for the weights from which this training started; latents of these weights were not measured"
    return Scaling(mean=normalizer.mean.tolist(), std=normalizer.std.tolist(), source=source)


def _class_name(autoencoder: Autoencoder, directory: Path) -> str:
    config = parsed_json((directory / "config.json").read_text())
    return str(config.get("_class_name", type(autoencoder).__name__))


def _facts(autoencoder: Autoencoder) -> str:
    info = autoencoder.info
    what = "clips" if info.takes_clips else "images"
    frames = f" t{info.temporal_factor}" if info.takes_clips else ""
    return f"{what}, f{info.spatial_factor}{frames}, {info.latent_channels} latent channels"
