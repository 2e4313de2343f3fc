"""Autoencoders as they are named on a command line."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from pydantic import ValidationError

from diffusability.core.errors import DataError, SpecError, nearest
from diffusability.core.planning.problems import problems_of
from diffusability.core.planning.source import Source, parse_source
from diffusability.core.plugins import registry
from diffusability.core.reading import read_json_object
from diffusability.core.run.folder_reader import read_run
from diffusability.core.run.run_record import is_run
from diffusability.core.scoring.python_reference import option_parts, python_reference
from diffusability.core.specs.base import at_home
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.core.specs.files.saved_format import AUTOENCODER_FORMAT, DENOISER_FORMAT

_FORMS = (
    "expected KIND:PATH (such as flux:weights/flux-vae), KIND:option=value, FILE.py:NAME, a folder with a saved"
    " autoencoder, a file of weights, an id on the Hugging Face hub (owner/name), or the folder of a run; a label may"
    " stand before a folder or a file, as in mine:runs/mine"
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]*[A-Za-z0-9]")
#: Files of weights: their architecture is read from the names and shapes of the tensors.
_WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_NO_HUB = (*_WEIGHTS, ".yaml", ".py", ".json")


@attrs.frozen(kw_only=True)
class Named:
    """An autoencoder with the label that it has in tables.

    Attributes:
        label: letters, digits, ``-`` and ``_``.
        spec: the fields of its spec.
        reference: what was typed.
    """

    label: str
    spec: dict[str, Any]
    reference: str = ""


def named_autoencoders(references: Sequence[str], trust_code: bool = False) -> list[Named]:
    """What references on a command line stand for, with labels that differ.

    The folder of a run stands for the last autoencoder that each of its variants trained. With ``trust_code``,
    code that saved ones carry may run.

    Raises:
        SpecError: a reference names nothing that is there.
    """
    resolved = [attrs.evolve(named, reference=reference) for reference in references for named in _resolve(reference)]
    if trust_code:
        resolved = [
            attrs.evolve(named, spec={**named.spec, "trust_code": True}) if named.spec["kind"] == "saved" else named
            for named in resolved
        ]
    labels = [named.label for named in resolved]
    return [
        named
        if labels.count(named.label) == 1
        else attrs.evolve(named, label=f"{named.label}-{labels[: place + 1].count(named.label)}")
        for place, named in enumerate(resolved)
    ]


def check_named(named: Named) -> None:
    """Validates an autoencoder and looks for its files. Raises SpecError that cites what was typed."""
    try:
        AutoencoderSpec.model_validate(named.spec).check_inputs()
    except ValidationError as error:
        problems = problems_of(error, Source(data=named.spec, marks={}, name="")).problems
        parts = [
            (f"{problem.path}: " if problem.path else "", problem.message, f"; {problem.hint}" if problem.hint else "")
            for problem in problems
        ]
        message = "; ".join(map("".join, parts))
    except (ValueError, OSError) as error:
        message = str(error)
    else:
        return
    raise SpecError(f"autoencoder {named.reference!r}: {message}")


def _resolve(reference: str) -> list[Named]:  # noqa: PLR0911 - a form of reference each
    if Path(reference).is_dir():
        return _from_folder(Path(reference), None, reference)
    of_file = python_reference(reference)
    if of_file is not None:
        return [Named(label=_clean(of_file[0]), spec=of_file[1])]
    prefix, separator, rest = reference.partition(":")
    rest = at_home(rest)
    if not separator and prefix in registry.kinds("autoencoders"):
        return [Named(label=_clean(prefix), spec={"kind": prefix})]
    if prefix in registry.kinds("autoencoders"):
        return [_of_kind(prefix, rest, reference)]
    if separator and Path(rest).is_dir():
        return _from_folder(Path(rest), prefix, reference)
    file = rest if separator else reference
    if Path(file).is_file() and Path(file).suffix in _WEIGHTS:
        label = _clean(prefix if separator else Path(file).stem)
        return [Named(label=label, spec={"kind": "diffusers", "path": file})]
    if not separator and _HUB_ID.fullmatch(reference) and Path(reference).suffix not in _NO_HUB:
        if Path(reference).parent.is_dir():
            raise SpecError(f"there is no {reference!r} in folder {str(Path(reference).parent)!r}; {_FORMS}")
        return [Named(label=_clean(Path(reference).name), spec={"kind": "diffusers", "path": reference})]
    known = registry.kinds("autoencoders")
    raise SpecError(f"autoencoder {reference!r} cannot be found; {nearest(prefix, known)}{_FORMS}")


def _of_kind(kind: str, rest: str, reference: str) -> Named:
    path, *options = option_parts(rest)
    if "=" in path:
        path, options = "", [path, *options]
    fields: dict[str, Any] = {"kind": kind}
    if path:
        known = registry.load("autoencoders", kind, AutoencoderSpec).model_fields
        if "path" not in known:
            raise SpecError(
                f"autoencoder kind {kind!r} takes no path, got {path!r} in {reference!r}; it takes options such as"
                f" {kind}:{next((name for name in known if name != 'kind'), 'option')}=..."
            )
        fields["path"] = path
    for option in options:
        name, separator, value = option.partition("=")
        if not separator:
            raise SpecError(f"{option!r} in {reference!r} is not an option; expected name=value")
        fields[name.strip()] = parse_source(value, option).data
    label = _clean("-".join([kind, Path(path).name] if path else [kind, *options]))
    return Named(label=label, spec=fields)


def _from_folder(folder: Path, label: str | None, reference: str) -> list[Named]:
    if is_run(folder):
        return _from_run(folder, label)
    for inner in (folder, folder / "model"):
        if (inner / "config.json").is_file():
            return [Named(label=_clean(label or folder.name), spec=_spec_of(inner, reference))]
    if (folder / "vae" / "config.json").is_file():  # a whole pipeline of diffusers
        return [Named(label=_clean(label or folder.name), spec=_spec_of(folder / "vae", reference))]
    raise SpecError(f"folder {reference!r} holds neither a saved autoencoder nor a run; {_FORMS}")


def _spec_of(folder: Path, reference: str) -> dict[str, Any]:
    """A folder that we wrote, or one of diffusers."""
    config = read_json_object(folder / "config.json", "the configuration", SpecError)
    if "_class_name" in config:
        return {"kind": "diffusers", "path": str(folder)}
    made = config.get("format")
    if made != AUTOENCODER_FORMAT:
        what = f"a model of format {made!r}" if made else "a config.json that names neither format nor class"
        if made == DENOISER_FORMAT:
            what = "a denoiser that diffusability trained"
        raise SpecError(f"folder {reference!r} holds {what}, not an autoencoder; {_FORMS}")
    return {"kind": "saved", "path": str(folder)}


def _from_run(folder: Path, label: str | None) -> list[Named]:
    variants_by_model: dict[str, list[str]] = {}
    for variant, stages in read_run(folder).variants.items():
        models = [
            stage.directory / "model"
            for stage in stages.values()
            if stage.kind == "train" and stage.directory is not None
        ]
        trained = [model for model in models if _is_autoencoder(model)]
        if trained:
            variants_by_model.setdefault(str(trained[-1]), []).append(variant)
    if not variants_by_model:
        raise SpecError(
            f"run {str(folder)!r} has trained no autoencoder yet; expected a finished training stage of one"
        )
    base = label or folder.name
    single = len(variants_by_model) == 1
    return [
        Named(label=_clean(base if single else f"{base}-{'-'.join(variants)}"), spec={"kind": "saved", "path": model})
        for model, variants in variants_by_model.items()
    ]


def _is_autoencoder(model: Path) -> bool:
    """By its format: the configuration of a denoiser names an autoencoder, too, the one that decodes its samples."""
    try:
        config = read_json_object(model / "config.json", "saved model")
    except DataError:
        return False
    return config.get("format") == AUTOENCODER_FORMAT


def _clean(label: str) -> str:
    """A label that can name a variant."""
    kept = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in label).strip("-_")
    return kept or "autoencoder"
