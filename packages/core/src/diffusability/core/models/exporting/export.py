"""Writes a model of a run into a folder of its own, which appears whole or not at all."""

from collections.abc import Callable, Mapping
from pathlib import Path

from diffusability.core.errors import CheckpointError, SpecError
from diffusability.core.models.exporting.autoencoders import export_autoencoder
from diffusability.core.models.exporting.denoisers import export_denoiser
from diffusability.core.run.selection import TrainedModel
from diffusability.core.specs.files.saved_format import AUTOENCODER_FORMAT, DENOISER_FORMAT
from diffusability.core.writing import replacing_folder

#: What exports a model, by the format that its ``config.json`` names.
EXPORTERS: Mapping[str, Callable[[TrainedModel, Path, bool], None]] = {
    AUTOENCODER_FORMAT: export_autoencoder,
    DENOISER_FORMAT: export_denoiser,
}


def export(model: TrainedModel, to: Path, trust_code: bool = False) -> None:
    """Exports a model; with ``trust_code``, also one that carries code, which runs.

    Raises:
        SpecError: the folder is not empty.
        CheckpointError: nothing exports models of its format, it cannot be read, or its code may not run.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise SpecError(f"{str(to)!r} is there already and not empty; expected a new folder")
    exporter = EXPORTERS.get(model.format)
    if exporter is None:
        raise CheckpointError(
            f"there is no export of models of format {model.format!r}, as stage {model.stage!r} made; expected one of"
            f" {', '.join(map(repr, EXPORTERS))}"
        )
    to.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(to) as partial:
        exporter(model, partial, trust_code)
        if to.exists():
            to.rmdir()  # raises where somebody has filled it meanwhile
