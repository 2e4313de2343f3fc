"""What the names in a report mean: metrics as their evaluators say, kinds as the plugins do that provide them."""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import yaml

from diffusability.core.plugins import registry
from diffusability.core.plugins.summaries import summary
from diffusability.core.report.comparison import Comparison
from diffusability.core.report.tables.metric_table import Column

#: Keys of a spec below which a kind stands, and the group of plugins that provides it.
_GROUPS = {
    "autoencoder": "autoencoders",
    "denoiser": "denoisers",
    "objective": "objectives",
    "regularizers": "regularizers",
    "sampler": "samplers",
    "data": "datasets",
}
#: Kinds that refer to another stage or run of the same project, and name no method.
_REFERENCES = frozenset({"stage", "saved"})
METRICS, THIS_REPORT = "metric", "in this report"


@attrs.frozen(kw_only=True)
class GlossaryEntry:
    """A name and what it means.

    Attributes:
        term: the name that readers see.
        name: the name in specs and result files; empty where there is none.
        group: what it is: a metric, a kind of plugin, or a word of the report itself.
        meaning: one sentence, without a full stop.
    """

    term: str
    name: str
    group: str
    meaning: str

    @property
    def anchor(self) -> str:
        """Its ``id`` in the page."""
        return anchor(self.group, self.name or self.term)


def anchor(group: str, name: str) -> str:
    """The ``id`` of an entry in the page, which may hold all but white space."""
    return "-".join(["glossary", *group.split(), *name.split()])


def glossary(comparison: Comparison, columns: Sequence[Column]) -> list[GlossaryEntry]:
    """Metrics of the tables, then kinds that the specs name, then words of the report; each by its term."""
    metrics = {column.metric: column for column in columns if column.meaning}
    entries = [
        GlossaryEntry(term=column.label, name=column.metric, group=METRICS, meaning=column.meaning)
        for column in metrics.values()
    ]
    groups = (entries, list(_kinds(comparison)), list(_words(comparison, columns)))
    return [entry for group in groups for entry in sorted(group, key=lambda entry: entry.term.casefold())]


def _kinds(comparison: Comparison) -> Iterator[GlossaryEntry]:
    named = {pair for run in comparison.runs for pair in _named_in(_parsed(run.spec), "")}
    for group in _GROUPS.values():
        installed = {plugin.kind: plugin for plugin in registry.installed(group)}
        for kind, plugin in installed.items():
            meaning = summary(plugin).rstrip(".").replace("``", "")
            if (group, kind) in named and kind not in _REFERENCES and meaning:
                yield GlossaryEntry(term=kind, name=kind, group=registry.GROUPS[group], meaning=meaning)


def _parsed(spec: str | None) -> Any:
    try:
        return yaml.safe_load(spec or "")
    except yaml.YAMLError:
        return None  # the page shows the text as it is


def _named_in(content: Any, key: str) -> Iterator[tuple[str, str]]:
    """Groups and kinds of a spec. Keys of variants are paths with dots, whose last part counts."""
    if isinstance(content, list):
        for item in content:
            yield from _named_in(item, key)
    if not isinstance(content, dict):
        return
    group = _GROUPS.get(key)
    if group is not None and isinstance(content.get("kind"), str):
        yield group, content["kind"]
    for name, inner in content.items():
        last = [part for part in str(name).split(".") if not part.isdigit()]
        yield from _named_in(inner, last[-1] if last else "")


def _words(comparison: Comparison, columns: Sequence[Column]) -> Iterator[GlossaryEntry]:
    def entry(term: str, meaning: str) -> GlossaryEntry:
        return GlossaryEntry(term=term, name="", group=THIS_REPORT, meaning=meaning)

    if len(comparison.groups) > 1:
        yield entry("baseline", f"the first variant, {comparison.groups[0].label}, from which all others are measured")
    if any(cell.interval for column in columns for cell in column.cells):
        yield entry(
            "95% interval",
            "the range of differences that the data are compatible with; a difference is significant where it"
            " excludes 0",
        )
        if comparison.num_seeds == 1:
            yield entry(
                "one seed",
                "every variant was trained once, so intervals hold for these weights and say nothing of how much"
                " training varies",
            )
    if comparison.num_seeds > 1:
        yield entry("seed", "one of several trainings of a variant that differ in their random numbers alone")
