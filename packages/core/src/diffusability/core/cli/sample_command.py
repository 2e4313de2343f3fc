"""``dfz sample``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import attrs
from rich.console import Console

from diffusability.core.errors import DataError, SpecError
from diffusability.core.reading import parsed_json
from diffusability.core.run.progress import StageProgress
from diffusability.core.specs.engine import InferencePrecision

#: Samples shown on the sheet.
_MOST_ON_SHEET = 256
_ABOUT = "samples.json"


@attrs.frozen(kw_only=True)
class SampleRequest:
    """What was asked for on the command line.

    Attributes:
        run: the folder of a run, of a training stage, or of an exported model.
        stage: which stage of the run.
        variant: which variant of the run.
        autoencoder: the folder of another decoder.
        sampler: settings of the sampler that were given.
        num_samples: how many samples, from number 0 on.
        label: their class; None for classes drawn at random.
        seed: of noise and labels.
        batch_size: samples at a time.
        precision: of the denoiser.
        frames_per_s: of clips.
        to: where files go; None for a folder below the run's.
    """

    run: Path
    stage: str | None
    variant: str | None
    autoencoder: Path | None
    sampler: Mapping[str, Any]
    num_samples: int
    label: int | None
    seed: int
    batch_size: int
    precision: InferencePrecision
    frames_per_s: int
    to: Path | None
    trust_code: bool = False


def chosen_precision(word: str) -> InferencePrecision:
    """The precision of that name. Raises SpecError for another word."""
    known: tuple[InferencePrecision, ...] = get_args(InferencePrecision)
    for precision in known:
        if word == precision:
            return precision
    raise SpecError(f"unknown precision {word!r}; expected fp32, bf16 or auto")


def write_samples(request: SampleRequest) -> None:
    """Writes the samples, a sheet of them, and what they are.

    Raises:
        SpecError: the model is not clear, has no such class, or the folder holds other things.
    """
    to = request.to or request.run / "generated" / _name(request)
    if to.exists() and (not to.is_dir() or (any(to.iterdir()) and not (to / _ABOUT).is_file())):
        raise SpecError(f"{str(to)!r} is there already and holds no earlier samples; expected a new folder")
    import torch

    from diffusability.core.run.freed_memory import keep_freed_memory
    from diffusability.core.sampling.image_grid import save_grid
    from diffusability.core.sampling.load_generator import load_generator
    from diffusability.core.sampling.sample_files import as_rgb, save_sample

    keep_freed_memory()

    generator = load_generator(
        request.run,
        stage=request.stage,
        variant=request.variant,
        sampler=request.sampler,
        autoencoder=request.autoencoder,
        seed=request.seed,
        precision=request.precision,
        trust_code=request.trust_code,
    )
    try:
        generator.check_label(request.label)
    except DataError as error:  # the command line is wrong, not the spec
        raise SpecError(str(error)) from None
    console = Console(soft_wrap=True)
    _remove_earlier(to)
    shown: list[torch.Tensor] = []
    about: list[dict[str, Any]] = []
    settings = {
        "run": str(request.run),
        "seed": request.seed,
        "sampler": dict(request.sampler),
        "precision": request.precision,
    }

    def record() -> None:
        (to / _ABOUT).write_text(json.dumps(settings | {"samples": about}, indent=2, allow_nan=False) + "\n")

    with StageProgress(console, "sample", request.num_samples) as progress:
        for first in range(0, request.num_samples, request.batch_size):
            positions = range(first, min(first + request.batch_size, request.num_samples))
            made = generator.at(positions, request.label)
            to.mkdir(parents=True, exist_ok=True)
            for index, image in zip(positions, made.images.cpu(), strict=True):
                path = save_sample(image, to / f"{index:05d}", request.frames_per_s)
                label = None if made.labels is None else int(made.labels[index - first])
                about.append({"file": path.name, "label": label})
                if index < _MOST_ON_SHEET:
                    shown.append(as_rgb(image))
            record()
            progress.update(positions[-1] + 1)
    save_grid(torch.stack(shown), to / "sheet.png")
    console.print(f"{request.num_samples} samples and sheet.png: {to}", highlight=False, markup=False)


def _remove_earlier(folder: Path) -> None:
    """Removes what an earlier command wrote there, so that no picture of other settings remains.

    The record is removed last: after an interruption, the next command still knows which files are ours.
    """
    try:
        earlier = parsed_json((folder / _ABOUT).read_text())["samples"]
        names = [Path(entry["file"]).name for entry in earlier]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in [*names, "sheet.png"]:
        (folder / name).unlink(missing_ok=True)


def _name(request: SampleRequest) -> str:
    parts = [request.variant, request.stage, None if request.label is None else f"class-{request.label}"]
    return "-".join([*(part for part in parts if part is not None), f"seed-{request.seed}"])
