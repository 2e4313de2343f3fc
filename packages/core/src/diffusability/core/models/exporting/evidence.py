"""What a run knows about one of its models: its recipe, its metrics, the scaling of its latents. Free of torch."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import yaml

from diffusability.core.reading import parsed_json, reading
from diffusability.core.run.results import Metric, parse_metrics
from diffusability.core.run.selection import TrainedModel


@attrs.frozen(kw_only=True)
class Scaling:
    """Statistics of latents, and where they come from: ``measured`` on which stage's data, or ``published``."""

    mean: list[Any]
    std: list[Any]
    source: str


@attrs.frozen(kw_only=True)
class Evaluation:
    """What a stage measured of a model.

    Attributes:
        stage: name of the stage.
        data: kind of its dataset.
        split: which part of the data.
        metrics: by stable name.
        view: how an image file became what was evaluated, in words; empty where nothing is said.
    """

    stage: str
    data: str
    split: str
    metrics: Mapping[str, Metric]
    view: str = ""


@attrs.frozen(kw_only=True)
class Evidence:
    """What a model card says about a model.

    Attributes:
        recipe: the resolved training stage.
        done: digest, time and versions of the training stage.
        evaluations: of the stages that evaluated the model.
        scaling: of latents that were encoded with it, or None.
        finer_scaling: file with its statistics of each place or frame, where there are such.
    """

    recipe: Mapping[str, Any]
    done: Mapping[str, Any]
    evaluations: Sequence[Evaluation]
    scaling: Scaling | None
    finer_scaling: Path | None = None


def evidence_of(model: TrainedModel) -> Evidence:
    """Reads it from the folders of the run."""
    with reading("the run folder", model.run):
        recipe = yaml.safe_load((model.directory / "resolved.yaml").read_text())
        evaluations = []
        scaling, finer = None, None
        for directory, resolved in _stages_on(model, recipe["digest"]):
            path = directory / "results.json"
            if resolved["stage"]["kind"] == "evaluate" and path.is_file():
                evaluations.append(_evaluation(resolved, parsed_json(path.read_text())))
            index = directory / "latents" / "cache.json"
            if resolved["stage"]["kind"] == "encode" and index.is_file():
                content = parsed_json(index.read_text())
                how = resolved["stage"].get("normalization", "measured")
                source = f"{how} (stage {resolved['name']})"
                finer = index.with_name("normalizer.safetensors") if content.get("finer") else None
                if finer is not None:
                    source += "; that of each place or frame is in latent_normalizer.safetensors"
                scaling = Scaling(mean=content["mean"], std=content["std"], source=source)
        done = parsed_json((model.directory / "done.json").read_text())
        return Evidence(recipe=recipe, done=done, evaluations=evaluations, scaling=scaling, finer_scaling=finer)


def _evaluation(resolved: Mapping[str, Any], results: object) -> Evaluation:
    stage = resolved["stage"]
    resolution = stage["data"].get("resolution")
    return Evaluation(
        stage=resolved["name"],
        data=stage["data"]["kind"],
        split=stage.get("split") or ("validation" if stage.get("denoiser") is None else "train"),
        metrics=parse_metrics(results, f"results of stage {resolved['name']!r}", []),
        view=f"centre square, bicubic with antialiasing to {resolution} px" if isinstance(resolution, int) else "",
    )


def _stages_on(model: TrainedModel, digest: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Folders and specs of the finished stages that use the model's stage directly."""
    for directory in sorted((model.run / "stages").iterdir()):
        path = directory / "resolved.yaml"
        if not path.is_file() or not (directory / "done.json").is_file():
            continue
        resolved = yaml.safe_load(path.read_text())
        if digest in resolved["inputs"].values():
            yield directory, resolved
