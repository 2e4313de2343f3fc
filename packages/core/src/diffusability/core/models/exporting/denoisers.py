"""Exports trained denoisers, each with the autoencoder that decodes what it makes."""

import json
from pathlib import Path

from diffusability.core.models.exporting.denoiser_card import denoiser_card
from diffusability.core.models.exporting.evidence import evidence_of
from diffusability.core.models.saved_models import (
    load_decoder,
    load_diffusion_model,
    save_autoencoder,
    save_diffusion_model,
)
from diffusability.core.reading import parsed_json
from diffusability.core.run.selection import TrainedModel
from diffusability.core.specs.files.saved_format import AUTOENCODER, CONFIG


def export_denoiser(model: TrainedModel, directory: Path, trust_code: bool = False) -> None:
    """Writes configuration, weights and normaliser, the autoencoder in ``autoencoder/``, and a model card.

    Where another library has the same architecture, the denoiser's weights are also written in its layout, in a folder
    that is named for it.

    Raises:
        CheckpointError: the saved model or its autoencoder cannot be read.
    """
    diffusion = load_diffusion_model(model.model, trust_code)
    save_diffusion_model(diffusion, directory)
    save_autoencoder(load_decoder(model.model, trust_code), directory / AUTOENCODER)
    path = directory / CONFIG
    reference = {"kind": "saved", "path": AUTOENCODER}
    path.write_text(
        json.dumps(parsed_json(path.read_text()) | {AUTOENCODER: reference}, indent=2, allow_nan=False) + "\n"
    )
    exchange = diffusion.denoiser.export(directory)
    card = denoiser_card(model, evidence_of(model), diffusion=diffusion, exchange=exchange)
    (directory / "README.md").write_text(card)
