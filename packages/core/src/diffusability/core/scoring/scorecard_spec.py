"""The spec that a scorecard runs: one evaluation, a variant for each autoencoder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from pydantic import ValidationError

from diffusability.core.data.specs.image_folder import has_images
from diffusability.core.errors import DiffusabilityError, PluginError, SpecError
from diffusability.core.plugins import registry
from diffusability.core.scoring.named_autoencoders import Named
from diffusability.core.specs.base import at_home
from diffusability.core.specs.components import DatasetSpec, EvaluatorSpec

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm"})
STAGE = "score"


@attrs.frozen(kw_only=True)
class ScoreOptions:
    """What the command line says of a scorecard.

    Attributes:
        data: a folder of images or videos, or ``kind`` or ``kind:path`` of a dataset.
        num: images, at most.
        resolution: height and width in pixels.
        frames: frames of a clip.
        labels: whether the first folder below the data's is the class.
        precision: ``auto``, ``bf16`` or ``fp32``, of encoding and decoding.
        batch_size: images encoded at once.
        seed: of everything that is drawn.
        full: also what takes long: every metric on all images.
    """

    data: str
    num: int = 256
    resolution: int = 256
    frames: int = 17
    labels: bool = False
    precision: str = "auto"
    batch_size: int = 8
    seed: int = 0
    full: bool = False


def scorecard_spec(autoencoders: Sequence[Named], options: ScoreOptions, name: str | None = None) -> dict[str, Any]:
    """The spec as plain data.

    Its name depends on the data and the options alone, so that all autoencoders of one data are measured in one folder:
    what one of them was measured to be stays there for the next command. Each is known by its spec and by names, sizes
    and times of its files and of the data's.

    Evaluators that are not installed, or lack an optional package, are left out.

    Raises:
        SpecError: there is no such data.
    """
    stage: dict[str, Any] = {
        "kind": "evaluate",
        "autoencoder": autoencoders[0].spec,
        "evaluators": scorecard_evaluators(options),
        "batch_size": options.batch_size,
        "precision": options.precision,
    }
    spec: dict[str, Any] = {
        "seed": options.seed,
        "data": scorecard_data(options),
        "stages": {STAGE: stage},
        "variants": {
            named.label: {
                f"stages.{STAGE}.autoencoder": named.spec,
                f"stages.{STAGE}.fingerprint": _digest([*_files_of(named.spec), _files(options.data)]),
            }
            for named in autoencoders
        },
    }
    common = {key: value for key, value in spec.items() if key != "variants"}
    common["stages"] = {STAGE: {key: value for key, value in stage.items() if key != "autoencoder"}}
    return {"name": name or f"score-{_data_label(options)}-{_digest(common)}", **spec}


def _digest(state: object) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _data_label(options: ScoreOptions) -> str:
    """Words for a folder's name: the data and its size."""
    kind, _, place = options.data.partition(":")
    data = Path(place or kind).resolve().name if place or Path(options.data).is_dir() else kind
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in data).strip("-")[:40]
    return f"{kept or 'data'}-{options.num}x{options.resolution}px"


def scorecard_evaluators(options: ScoreOptions) -> list[dict[str, Any]]:
    """The evaluators that take part in scorecards, by kind; those that read classes only where there are some."""
    chosen = []
    for kind in registry.kinds("evaluators"):
        try:
            spec_class: type[EvaluatorSpec] = registry.load("evaluators", kind, EvaluatorSpec)
        except PluginError:
            continue  # `dfz plugins --check` names it
        if spec_class.scorecard is None or ("labels" in (spec_class.needs or ()) and not options.labels):
            continue
        evaluator = {"kind": kind, **spec_class.scorecard.settings(options.num, options.full)}
        if _has_inputs(evaluator):
            chosen.append(evaluator)
    return chosen


def _has_inputs(evaluator: dict[str, Any]) -> bool:
    """False for an evaluator whose weights or optional package is missing: a scorecard does without.

    True for one whose settings are wrong, such as too few images: the run says so.
    """
    try:
        spec = EvaluatorSpec.model_validate(evaluator)
    except ValidationError:
        return True
    try:
        spec.check_inputs()
    except (ValueError, DiffusabilityError):
        return False
    return True


def scorecard_data(options: ScoreOptions) -> dict[str, Any]:
    """The spec of the data. Raises SpecError when it is neither a folder nor a dataset."""
    path = Path(at_home(options.data))
    if path.is_dir():
        if has_images(path):
            return _dataset("image-folder", options.data, options) | {"crop": "center"}
        videos = [file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES]
        if videos:
            return _dataset("video-folder", options.data, options) | {"clips_per_video": -(-options.num // len(videos))}
        raise SpecError(f"--data {options.data!r} holds neither images nor videos")
    kind, _, place = options.data.partition(":")
    if kind in registry.kinds("datasets"):
        return _dataset(kind, place, options)
    known = ", ".join(registry.kinds("datasets"))
    raise SpecError(
        f"--data {options.data!r} is neither a folder nor a dataset; expected a folder with images or videos, or"
        f" one of: {known}"
    )


def _dataset(kind: str, place: str, options: ScoreOptions) -> dict[str, Any]:
    """All of a dataset for validation, with what its spec has fields for."""
    known = registry.load("datasets", kind, DatasetSpec).model_fields
    wanted: dict[str, Any] = {"resolution": options.resolution, "frames": options.frames}
    if place:
        wanted |= {"path": place, "shards": [place], "validation_share": 1.0}
    if options.labels and kind in ("image-folder", "video-folder"):
        wanted["labels"] = "folder"
    return {"kind": kind, **{name: value for name, value in wanted.items() if name in known}}


def _files_of(spec: Mapping[str, Any]) -> list[list[tuple[str, int, int]]]:
    """Of an autoencoder: those of its path or, of one from a file, of its source and its checkpoint."""
    if "target" not in spec:
        return [_files(at_home(spec.get("path")))]
    source = at_home(spec["target"].rpartition(":")[0])
    return [_files(source), _files(at_home(spec.get("checkpoint")))]


def _files(path: object) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files of a model, so that a changed one is scored again."""
    if not isinstance(path, str) or not Path(path).exists():
        return []
    root = Path(path)
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
