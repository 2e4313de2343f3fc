"""Models with averaged weights of a width that is chosen after training."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from diffusability.core.checksums import save_with_checksums
from diffusability.core.contracts.model_files import read_weights
from diffusability.core.engine.averages.average_snapshots import FOLDER, Synthesis, synthesis
from diffusability.core.errors import CheckpointError
from diffusability.core.reading import parsed_json
from diffusability.core.specs.files.saved_format import AUTOENCODER, CONFIG, WEIGHTS
from diffusability.core.writing import replacing_folder


def synthesize_model(stage_folder: Path, sigma_rel: float, to: Path, step: int | None = None) -> Synthesis:
    """Writes a model of a training stage with the power-function average of width ``sigma_rel``, for ``saved`` to load.

    Needs neither the data nor a GPU: the stage's ``model/`` is copied, and its trained weights are replaced.

    Args:
        stage_folder: folder of a finished training stage whose spec has ``ema.power_function``.
        sigma_rel: width of the average as a share of the training, in (0, 0.2886].
        to: folder to write, which must not exist or be empty.
        step: the average as of this step, one that has snapshots; default: the last.

    Raises:
        CheckpointError: snapshots or ``model/`` are missing or do not belong together, or ``to`` has content.
    """
    model = stage_folder / "model"
    if not (model / WEIGHTS).is_file() or not (model / CONFIG).is_file():
        raise CheckpointError(f"no saved model in {str(model)!r}; has the stage finished?")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise CheckpointError(f"{str(to)!r} already has content; name a new folder")
    made = synthesis(stage_folder / FOLDER, sigma_rel, step)
    saved = read_weights(model)
    averaged = _renamed(made.weights(), saved)
    if averaged.keys() == set():
        raise CheckpointError(f"the snapshots in {str(stage_folder / FOLDER)!r} hold no weight of {str(model)!r}")
    to.parent.mkdir(parents=True, exist_ok=True)
    mixed = {name: averaged.get(name, value).contiguous() for name, value in saved.items()}
    with replacing_folder(to) as partial:
        shutil.copytree(model, partial, ignore=shutil.ignore_patterns(WEIGHTS), dirs_exist_ok=True)
        save_with_checksums(mixed, partial / WEIGHTS)
        _point_to_the_same_decoder(partial / CONFIG, model, to)
    return made


def _point_to_the_same_decoder(config_file: Path, model: Path, to: Path) -> None:
    """A denoiser names the autoencoder of its latents by a path relative to its own folder, which is another now."""
    config = parsed_json(config_file.read_text())
    decoder = config.get(AUTOENCODER)
    if isinstance(decoder, dict) and decoder.get("kind") == "saved":
        decoder["path"] = os.path.relpath((model / decoder["path"]).resolve(), to.resolve())
        config_file.write_text(json.dumps(config, indent=2, allow_nan=False) + "\n")


def _renamed(averaged: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Averages under the names that the saved model uses: those of the task without the path to the model in it."""
    prefix = _path_to_model(averaged, saved)
    return {
        name: averaged[prefix + name].to(value.dtype).view(value.shape)
        for name, value in saved.items()
        if prefix + name in averaged and averaged[prefix + name].shape == value.shape
    }


def _path_to_model(task_names: Iterable[str], model_names: Iterable[str]) -> str:
    """The prefix under which most of a model's names are among a task's."""
    model = set(model_names)
    counts: dict[str, int] = {}
    for name in task_names:
        parts = name.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in model:
                prefix = "".join(f"{part}." for part in parts[:cut])
                counts[prefix] = counts.get(prefix, 0) + 1
    return max(counts, key=lambda prefix: (counts[prefix], -len(prefix)), default="")
