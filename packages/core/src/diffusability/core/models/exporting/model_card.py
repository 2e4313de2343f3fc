"""The text that goes with an exported model, as the Hugging Face hub shows it. Free of torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusability.core.extras import require_package
from diffusability.core.models.exporting.evidence import Evaluation, Evidence, Scaling
from diffusability.core.planning.source import as_yaml
from diffusability.core.run.metric_names import info_of
from diffusability.core.run.selection import TrainedModel


def autoencoder_card(model: TrainedModel, evidence: Evidence, *, library: str, class_name: str, facts: str) -> str:
    """The card of an autoencoder.

    Args:
        model: what was exported.
        evidence: what the run knows about it.
        library: the library that defines its layout, ``diffusers`` or ``diffusability``.
        class_name: the class that loads it.
        facts: its factors and channels, as text.
    """
    return "\n".join(
        [
            card_header(model, evidence, library, ["autoencoder", "vae", "diffusability"], "reconstruction"),
            f"# {model_name(model)}",
            "",
            f"An autoencoder of {facts}, trained with [diffusability](https://pypi.org/project/diffusability).",
            "",
            *_loading(library, class_name),
            *_scaling(evidence.scaling),
            *card_metrics(evidence.evaluations),
            *card_protocols(evidence.evaluations),
            *card_recipe(model, evidence),
        ]
    )


def model_name(model: TrainedModel) -> str:
    """What a card calls a model: its run and its stage."""
    return f"{model.run.resolve().name}: {model.stage}"


def card_header(model: TrainedModel, evidence: Evidence, library: str, tags: Sequence[str], task: str) -> str:
    """What the hub reads of a card: how to load the model, and its metrics, which it shows beside the model.

    Args:
        model: what was exported.
        evidence: what the run knows about it.
        library: what loads it.
        tags: keywords by which the hub finds it.
        task: what its metrics measure.
    """
    require_package("huggingface_hub", "a model card", "hub")
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=task,
            dataset_type=evaluation.data,
            dataset_name=evaluation.data,
            dataset_split=evaluation.split,
            metric_type=name,
            metric_name=info_of(metric).label,
            metric_value=metric.value,
        )
        for evaluation in evidence.evaluations
        for name, metric in evaluation.metrics.items()
        if metric.value is not None
    ]
    data = ModelCardData(
        library_name=library,
        tags=list(tags),
        model_name=model_name(model) if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _loading(library: str, class_name: str) -> list[str]:
    if library == "diffusers":
        lines = [
            f"from diffusers import {class_name}",
            "",
            f"autoencoder = {class_name}.from_pretrained(folder)  # images in [-1, 1]",
        ]
        return ["```python", *lines, "```", ""]
    return [
        f"Class `{class_name}` is one of diffusability's own; other libraries have none that reads it.",
        "",
        "```yaml",
        "autoencoder: {kind: saved, path: ...}   # this folder, in a spec",
        "```",
        "",
    ]


def _scaling(scaling: Scaling | None) -> list[str]:
    lines = ["## Latents", ""]
    if scaling is None:
        return [*lines, "No scaling of its latents was measured in this run, and none is published with it.", ""]
    return [
        *lines,
        f"A denoiser should see `(z - mean) / std` of each channel; {scaling.source}.",
        "The same numbers are in `latent_normalizer.json`.",
        "",
        "```json",
        f'{{"mean": {_numbers(scaling.mean)},',
        f' "std": {_numbers(scaling.std)}}}',
        "```",
        "",
    ]


def _numbers(values: Sequence[Any]) -> str:
    return "[" + ", ".join(_numbers(value) if isinstance(value, list) else f"{value:.6g}" for value in values) + "]"


def card_metrics(evaluations: Sequence[Evaluation]) -> list[str]:
    """The metrics that the run measured of the model, as a table."""
    rows = [
        f"| {evaluation.stage} | {name} | {metric.value:.6g} {metric.unit} | {metric.num_samples or ''} |"
        for evaluation in evaluations
        for name, metric in evaluation.metrics.items()
        if metric.value is not None
    ]
    if not rows:
        return ["## Metrics", "", "No stage of the run evaluated this model.", ""]
    return ["## Metrics", "", "| stage | metric | value | samples |", "| --- | --- | --- | --- |", *rows, ""]


def card_protocols(evaluations: Sequence[Evaluation]) -> list[str]:
    """How distances in features of networks were computed: all that makes two of them comparable."""
    rows = [
        f"| {evaluation.stage} | {name} | {_real_images(evaluation, metric.settings)} | {_networks(metric.settings)} |"
        f" {_samples(metric.settings)} |"
        for evaluation in evaluations
        for name, metric in evaluation.metrics.items()
        if metric.value is not None and {"features", "networks"} & set(metric.settings)
    ]
    if not rows:
        return []
    return [
        "## How distances were computed",
        "",
        "All images are rounded to bytes before a network sees them. Distances compare where all of this is equal.",
        "",
        "| stage | metric | real images | network, resize, weights | samples |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]


def _real_images(evaluation: Evaluation, settings: Mapping[str, Any]) -> str:
    given = settings.get("reference")
    parts = [f"statistics {given}"] if given else [f"{evaluation.data}, {evaluation.split} split", evaluation.view]
    count = settings.get("num_real")
    return ", ".join(filter(None, [*parts, "" if count is None else f"{count} images"]))


def _networks(settings: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{network.get('features')}, {network.get('resize', 'no resize named')}, {network.get('weights', 'not named')}"
        for network in settings.get("networks") or [settings]
    )


def _samples(settings: Mapping[str, Any]) -> str:
    """Sampler and classes of generated images; empty of reconstructions."""
    sampler = settings.get("sampler")
    if not isinstance(sampler, Mapping):
        return ""
    parts = [str(sampler.get("kind")), f"{sampler.get('steps')} steps", f"guidance {sampler.get('guidance_scale')}"]
    channels = sampler.get("guidance_channels")
    parts += [f"of the first {channels} channels"] if channels else []
    return ", ".join([*parts, str(settings.get("precision")), f"{settings.get('labels', 'random')} classes"])


def card_recipe(model: TrainedModel, evidence: Evidence) -> list[str]:
    """How and with what it was trained."""
    versions = ", ".join(f"{name} {version}" for name, version in evidence.done.get("versions", {}).items())
    text = as_yaml(evidence.recipe, allow_unicode=False).rstrip()
    return [
        "## Recipe",
        "",
        f"Stage `{model.stage}` of variant `{model.variant}`, finished {evidence.done.get('finished')},",
        f"with {versions}.",
        "",
        "```yaml",
        text,
        "```",
        "",
    ]
