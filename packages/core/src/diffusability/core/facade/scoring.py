"""``score``: what ``dfz score`` measures, of an autoencoder and images that a program holds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusability.core.data.enlarged import enlarged_images
from diffusability.core.engine.distributed import Ranks
from diffusability.core.errors import DataError
from diffusability.core.facade.autoencoders import load_autoencoder
from diffusability.core.facade.checked import checked
from diffusability.core.facade.image_sets import RESOLUTION, ValueRange, image_set
from diffusability.core.facade.scorecard import Scorecard
from diffusability.core.numerics.precision import autocast_dtype, resolve_precision
from diffusability.core.planning.sample_counts import fewer_for
from diffusability.core.scoring.scorecard_spec import ScoreOptions, scorecard_evaluators
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.core.stages.evaluation_data import fixed_order
from diffusability.core.stages.evaluation_results import settings_of_autoencoders
from diffusability.core.stages.evaluation_rounds import Round, evaluate
from diffusability.core.stages.evaluation_source import EvaluationSource
from diffusability.core.stages.low_precision import LowPrecision


def score(
    autoencoder: Any,
    images: Any,
    *,
    evaluators: Sequence[str | Mapping[str, Any]] | None = None,
    num: int = 256,
    resolution: int | None = None,
    value_range: ValueRange | None = None,
    labels: Sequence[int] | Tensor | bool = False,
    frames: int = 17,
    batch_size: int = 8,
    precision: str = "auto",
    full: bool = False,
    device: torch.device | str | None = None,
    seed: int = 0,
    name: str | None = None,
    trust_code: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Scorecard:
    """How diffusable the latents of an autoencoder are: reconstruction, spectra, chop-off and predictors.

    The numbers are those of ``dfz score`` for the same images in the same order, to the bit on the same device.

    Args:
        autoencoder: whatever ``load_autoencoder`` takes. One that is being trained is evaluated in eval mode and left
            in the mode that it was in.
        images: a tensor ``b c h w``, an array, pictures of Pillow, a folder: whatever ``image_set`` takes. Values are
            bytes, or floats in [-1, 1]; of any others ``value_range`` must tell.
        evaluators: kinds, such as ``["psnr", "chop-off"]``, or mappings with settings; default: those of scorecards.
        num: images, at most.
        resolution: side in pixels of pictures and files; default: 256.
        value_range: values of black and white in ``images``.
        labels: class of each image, for the metrics that need some; True for a folder of class folders.
        frames: frames of a clip, of a folder with videos.
        batch_size: images encoded at once.
        precision: of encoding and decoding: ``auto``, ``bf16`` or ``fp32``.
        full: also what takes long: every metric on all images.
        device: where to compute; default: a GPU for what is loaded, where an object's weights are for others.
        seed: of weights that are drawn at random.
        name: what the scorecard calls the autoencoder.
        trust_code: let code run that a saved model carries.
        on_progress: called with the number of images done and of all.

    Raises:
        DataError: the images are of an unknown form or range, too few, or too many of them cannot be read.
        SpecError: there is no such autoencoder, folder or evaluator.
    """
    gpu = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = isinstance(autoencoder, str | Path)
    model = load_autoencoder(autoencoder, seed=seed, trust_code=trust_code, device=device or (gpu if loaded else None))
    where = torch.device(device) if device is not None else _device_of(model)
    given = image_set(images, resolution=resolution, value_range=value_range, labels=labels, frames=frames, num=num)
    options = ScoreOptions(
        data="", num=num, resolution=resolution or RESOLUTION, labels=labels is not False, full=full, seed=seed
    )
    given_evaluators = [_fields(evaluator) for evaluator in evaluators or ()]
    chosen = [{"num_samples": num, **fields} for fields in given_evaluators]
    if evaluators is None:
        chosen = scorecard_evaluators(options)
    specs = [_evaluator(settings) for settings in chosen]
    remarks = [f"images: {given.described}", *given.dataset.notes]
    asked = [spec for spec, fields in zip(specs, given_evaluators, strict=False) if "num_samples" in fields]
    remarks += fewer_for(asked, len(given.dataset), "given")
    enlarged = enlarged_images(given.dataset, fixed_order(given.dataset, max(spec.num_samples for spec in specs)))
    remarks += [enlarged] if enlarged else []
    random = "" if model.spec is None else model.spec.random_weights()
    remarks += [f"the autoencoder is untrained: {random} are random (seed {seed})"] if random else []
    unreadable: list[str] = []

    def on_round(done: Round) -> None:
        unreadable.extend(done.unreadable)
        if len(unreadable) > given.dataset.max_unreadable_share * len(given.dataset):
            raise DataError(f"{len(unreadable)} images cannot be read, too many; the first: {unreadable[0]}")
        if on_progress is not None:
            on_progress(done.done, done.total)

    with _for_inference(model):
        dtype = autocast_dtype(precision, where.type)
        used = model if dtype is None else LowPrecision(model, dtype).eval()
        evaluation = evaluate(
            specs,
            lambda spec: spec.build(BuildContext()),
            EvaluationSource(dataset=given.dataset, device=where, make_autoencoder=lambda: used),
            Ranks(rank=0, size=1, device=where),
            batch_size=batch_size,
            settings=settings_of_autoencoders(_settings(random, precision, where.type, seed)),
            on_round=on_round,
        )
    label = name or (str(autoencoder) if loaded else type(autoencoder).__name__)
    return Scorecard(autoencoder=label, results=evaluation.results, remarks=[*remarks, *unreadable])


def _fields(evaluator: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": evaluator} if isinstance(evaluator, str) else dict(evaluator)


def _evaluator(settings: Mapping[str, Any]) -> EvaluatorSpec:
    return checked(EvaluatorSpec, settings, f"evaluator {settings.get('kind')!r}")


def _settings(random: str, precision: str, device_type: str, seed: int) -> dict[str, Any]:
    """What numbers depend on beside their evaluator, in the words of the evaluate stage."""
    resolved = resolve_precision(precision, device_type)
    settings: dict[str, Any] = {} if resolved == "fp32" else {"precision": resolved}
    return settings | ({"random_weights": f"{random} (seed {seed})"} if random else {})


def _device_of(module: nn.Module) -> torch.device:
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))


@contextmanager
def _for_inference(model: nn.Module) -> Iterator[None]:
    """In eval mode meanwhile; then as it was, with convolutions in the memory format that they had.

    Torch's generator is left where it stands, too: loading data draws from it.
    """
    modes = {module: module.training for module in model.modules()}
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    plain = [module for module in convolutions if module.weight.is_contiguous()]
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        for module in plain:
            module.to(memory_format=torch.contiguous_format)
