"""Sampling from a trained model in a few lines, without the engine.

from diffusability.core import load_generator

generator = load_generator("runs/quickstart", variant="se", sampler={"kind": "euler", "guidance_scale": 2.0})
images = generator.at(range(16), labels=3).images  # b c h w in [-1, 1]
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from diffusability.core.contracts.autoencoder import Autoencoder, build_autoencoder
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.errors import SpecError
from diffusability.core.models.saved_models import (
    load_autoencoder,
    load_decoder,
    load_diffusion_model,
    trained_model,
)
from diffusability.core.numerics.precision import autocast_dtype
from diffusability.core.planning.problems import problems_of
from diffusability.core.planning.source import Source, parse_source
from diffusability.core.reading import reading
from diffusability.core.run.run_record import RECORD, is_run
from diffusability.core.run.selection import select_model
from diffusability.core.sampling.generation import ImageGenerator
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import DenoiserSpec, SamplerSpec
from diffusability.core.specs.engine import InferencePrecision
from diffusability.core.specs.files.saved_format import CONFIG, DENOISER_FORMAT, problem_of_format, read_saved_config
from diffusability.core.specs.guidance import needs_classes, no_classes_message


def find_denoiser(path: Path, stage: str | None = None, variant: str | None = None) -> Path:
    """The folder of a saved denoiser: the path itself, its ``model/``, or one of a run's.

    Raises:
        SpecError: there is none, or the run has several and neither stage nor variant tells which.
    """
    if is_run(path):
        return select_model(path, stage, variant, DENOISER_FORMAT).model
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file():
            problem = problem_of_format(read_saved_config(folder), DENOISER_FORMAT)
            if problem is not None:
                raise SpecError(f"{str(folder / CONFIG)!r} {problem}")
            return folder
    raise SpecError(
        f"{str(path)!r} holds no trained denoiser: neither {RECORD} nor {CONFIG} is there; expected the folder of a"
        " run, of a training stage, or of an exported model"
    )


def described_denoiser(path: Path) -> tuple[DiffusionModel, Autoencoder | None]:
    """The trained denoiser that a YAML file describes, such as one of kind ``published``, and its autoencoder if named.

    Raises:
        SpecError: the file does not describe a denoiser, or one that is not trained.
        CheckpointError: a model cannot be read.
    """
    with reading("description of a denoiser", path, SpecError):
        source = parse_source(path.read_text(encoding="utf-8"), str(path))
    try:
        spec = DenoiserSpec.model_validate(source.data)
        spec.check_inputs()
    except ValidationError as error:
        raise problems_of(error, source) from None
    except ValueError as error:
        raise SpecError(str(error)) from None
    model = trained_model(spec, BuildContext())
    decoder = spec.decoder()
    return model, None if decoder is None else build_autoencoder(decoder)


def sampler_spec(settings: SamplerSpec | Mapping[str, Any] | None, model: DiffusionModel) -> SamplerSpec:
    """The sampler that is asked for, by default Euler.

    Raises:
        SpecError: it guides by classes, and the model has none.
    """
    given = settings if isinstance(settings, SamplerSpec) else {"kind": "euler", **(settings or {})}
    try:
        spec = SamplerSpec.model_validate(given)
    except ValidationError as error:
        raise problems_of(error, Source(data=given, marks={}, name="sampler")) from None
    if needs_classes(spec) and model.num_classes is None:
        raise SpecError(no_classes_message(spec.guidance_scale, "this one is unconditional (num_classes is None)"))
    return spec


def load_generator(
    path: Path | str,
    *,
    stage: str | None = None,
    variant: str | None = None,
    sampler: SamplerSpec | Mapping[str, Any] | None = None,
    autoencoder: Path | str | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    precision: InferencePrecision = "fp32",
    trust_code: bool = False,
) -> ImageGenerator:
    """A trained denoiser with its sampler and decoder, ready to be asked for samples by their number.

    Args:
        path: the folder of a run, of a training stage, or of an exported model; or a YAML file with a denoiser's spec,
            such as one of kind ``published``.
        stage: which stage of the run, when several trained denoisers.
        variant: which variant of the run.
        sampler: a spec of one, such as ``{"kind": "euler", "steps": 40}``; by default Euler with 40 steps.
        autoencoder: the folder of a saved autoencoder; by default what the denoiser's configuration names.
        seed: of noise and labels.
        device: by default the first accelerator, or the CPU.
        precision: of the denoiser, ``auto`` for bf16 where the device has instructions for it; the decoder computes in
            float32.
        trust_code: run the code that models of kind ``python`` carry.

    Raises:
        SpecError: it is not clear which model is meant, or the sampler does not suit it.
        CheckpointError: a model cannot be read.
    """
    own = None if autoencoder is None else load_autoencoder(Path(autoencoder), trust_code)
    if Path(path).suffix in (".yaml", ".yml"):
        model, named = described_denoiser(Path(path))
        decoder = own or named
        if decoder is None:
            raise SpecError(f"the denoiser in {str(path)!r} names no autoencoder of its latents; give its folder")
    else:
        directory = find_denoiser(Path(path), stage, variant)
        model = load_diffusion_model(directory, trust_code)
        decoder = own or load_decoder(directory, trust_code)
    spec = sampler_spec(sampler, model)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    for module in (model.denoiser, model.normalizer, decoder):
        module.to(where).eval().requires_grad_(False)
    return ImageGenerator(
        model=model,
        sampler=spec.build(BuildContext(latent_shape=model.latent_shape, num_classes=model.num_classes)),
        decode=decoder.decode,
        seed=seed,
        device=where,
        autocast_dtype=autocast_dtype(precision, where.type),
    )
