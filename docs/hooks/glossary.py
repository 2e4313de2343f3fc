"""Generates the page ``reference/glossary.md`` from what the installed evaluators say of their metrics."""

from collections.abc import Mapping

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from diffusability.core.plugins import registry
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.core.specs.metric_info import MetricInfo

INTRODUCTION = """# Glossary of metrics

Generated from the evaluators themselves, as the glossary of a report is. A metric stands under the name that
`results.json` and `dfz correlate --target` use. A distance with features other than the usual ones has their name
behind its own, such as `kid_efficientnet_lite0`. For definitions and sources see [metrics](../metrics.md) and
[scorecard](../score.md#predictors).
"""

HEADINGS = {
    "samples": "Generated samples",
    "reconstruction": "Reconstruction",
    "spectrum": "Spectra of the latents",
    "channels": "Channels of the latents",
    "denoiser": "Denoisers",
    "": "Others",
}


def metrics() -> dict[str, tuple[MetricInfo, str]]:
    """Every metric that has a meaning, by name, with the kind of the evaluator that computes it."""
    collected: dict[str, tuple[MetricInfo, str]] = {}
    for kind in registry.kinds("evaluators"):
        spec: type[EvaluatorSpec] = registry.load("evaluators", kind, EvaluatorSpec)
        declared: Mapping[str, MetricInfo] = spec.metrics
        collected |= {name: (info, kind) for name, info in declared.items() if info.meaning}
    return collected


def page() -> str:
    """The whole page: a heading for each group, metrics in the order of scorecards."""
    by_group: dict[str, list[tuple[str, MetricInfo, str]]] = {}
    for name, (info, kind) in metrics().items():
        by_group.setdefault(info.group, []).append((name, info, kind))
    lines = [INTRODUCTION]
    for group in sorted(by_group, key=lambda group: min(info.order for _, info, _ in by_group[group])):
        lines.append(f"\n## {HEADINGS.get(group, group.capitalize())}\n")
        lines.append("| metric | label | meaning | evaluator |\n| --- | --- | --- | --- |")
        for name, info, kind in sorted(by_group[group], key=lambda entry: entry[1].order):
            meaning = info.meaning.replace("|", "\\|")
            lines.append(f"| `{name}` | {info.label} | {meaning} | [`{kind}`](specs/evaluators.md#{kind}) |")
    return "\n".join(lines) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page to the site."""
    files.append(File.generated(config, "reference/glossary.md", content=page()))
    return files
