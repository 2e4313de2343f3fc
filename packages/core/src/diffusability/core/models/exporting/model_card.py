"""The text that goes with an exported model, as the Hugging Face hub shows it. Free of torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffusability.core.models.exporting.evidence import Evidence, Scaling
from diffusability.core.planning.source import as_yaml
from diffusability.core.run.selection import TrainedModel


def autoencoder_card(model: TrainedModel, evidence: Evidence, *, library: str, class_name: str, facts: str) -> str:
    """The card of an autoencoder.

    Args:
        model: what was exported.
        evidence: what the run knows about it.
        library: whose layout it has, ``diffusers`` or ``diffusability``.
        class_name: the class that loads it.
        facts: its factors and channels, in words.
    """
    return "\n".join(
        [
            card_header(library, ["autoencoder", "vae", "diffusability"]),
            f"# {model.run.resolve().name}: {model.stage}",
            "",
            f"An autoencoder of {facts}, trained with [diffusability](https://pypi.org/project/diffusability).",
            "",
            *_loading(library, class_name),
            *_scaling(evidence.scaling),
            *card_metrics(evidence.results),
            *card_recipe(model, evidence),
        ]
    )


def card_header(library: str, tags: Sequence[str]) -> str:
    """What the hub reads of a card."""
    metadata = {"library_name": library, "tags": list(tags)}
    return f"---\n{as_yaml(metadata, allow_unicode=False)}---\n"


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


def card_metrics(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The metrics that the run measured of the model, as a table."""
    rows = [
        f"| {stage} | {metric} | {entry['value']:.6g} {entry.get('unit') or ''} | {entry.get('num_samples') or ''} |"
        for stage, metrics in results.items()
        for metric, entry in metrics.items()
        if isinstance(entry, Mapping) and isinstance(entry.get("value"), int | float)
    ]
    if not rows:
        return ["## Metrics", "", "No stage of the run evaluated this model.", ""]
    return ["## Metrics", "", "| stage | metric | value | samples |", "| --- | --- | --- | --- |", *rows, ""]


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
