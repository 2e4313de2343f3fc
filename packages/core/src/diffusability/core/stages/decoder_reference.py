"""Writes into a saved denoiser which autoencoder decodes what it makes, so that it can be sampled from on its own."""

import json
import os
from pathlib import Path

from diffusability.core.planning.plan import PlannedStage
from diffusability.core.reading import parsed_json
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.specs.files.carried import local_paths
from diffusability.core.specs.files.saved_format import AUTOENCODER, CONFIG, DENOISER_FORMAT
from diffusability.core.specs.model_references import SavedAutoencoderSpec, StageAutoencoderSpec
from diffusability.core.specs.python import code_files
from diffusability.core.specs.stages import EncodeStage
from diffusability.core.stages.runtime import StageRuntime

#: Folder of an encode stage with a copy of its autoencoder, where a spec alone does not rebuild it.
KEPT = "autoencoder"


def keeps_autoencoder(spec: AutoencoderSpec) -> bool:
    """Whether an encode stage keeps a copy of its autoencoder: one with random weights, of code, or of a stage."""
    if isinstance(spec, StageAutoencoderSpec | SavedAutoencoderSpec):
        return False
    return bool(spec.random_weights()) or bool(code_files(spec)) or any(True for _ in spec.references())


def name_decoder(written: Path, final: Path, stage: PlannedStage, runtime: StageRuntime) -> None:
    """Adds the autoencoder of the latents that a stage trained on to the configuration of its denoiser, if it is one.

    Args:
        written: where the model is now.
        final: where it will be; the path of the autoencoder is relative to it.
        stage: the training stage.
        runtime: its run.
    """
    path = written / CONFIG
    if stage.data.holds != "latents" or not path.is_file():
        return
    config = parsed_json(path.read_text())
    encoder = _encode_stage(stage)
    if config.get("format") != DENOISER_FORMAT or encoder is None:
        return
    assert isinstance(encoder.spec, EncodeStage)
    spec = _standing_alone(encoder.spec.autoencoder, encoder, final, runtime)
    path.write_text(json.dumps(config | {AUTOENCODER: spec.model_dump(mode="json")}, indent=2, allow_nan=False) + "\n")


def _encode_stage(stage: PlannedStage) -> PlannedStage | None:
    for used in stage.inputs.values():
        if isinstance(used.spec, EncodeStage):
            return used
    for used in stage.inputs.values():
        if (encoder := _encode_stage(used)) is not None:
            return encoder
    return None


def _standing_alone(
    spec: AutoencoderSpec, encoder: PlannedStage, final: Path, runtime: StageRuntime
) -> AutoencoderSpec:
    """The spec with a path in place of a stage's name, and whole paths in place of those from the working folder."""
    if isinstance(spec, StageAutoencoderSpec):
        trained = runtime.context(encoder).stage_directory(spec.stage) / "model"
        return SavedAutoencoderSpec(path=Path(os.path.relpath(trained, final)))
    if keeps_autoencoder(spec):
        kept = runtime.folder.stage(encoder) / KEPT
        return SavedAutoencoderSpec(path=Path(os.path.relpath(kept, final)))
    paths = {name: path.resolve() for name, path in local_paths(spec)}
    return spec.model_copy(
        update={name: str(path) if isinstance(getattr(spec, name), str) else path for name, path in paths.items()}
    )
