"""The order in which a scorecard lists metrics."""

from collections.abc import Mapping

from diffusability.core.specs.metric_info import MetricInfo


def metric_groups(infos: Mapping[str, MetricInfo]) -> list[tuple[str, list[str]]]:
    """Headings with the metrics below them, by rank; those without a group come last."""
    groups: dict[str, list[str]] = {}
    for name in sorted(infos, key=lambda name: infos[name].order):
        groups.setdefault(infos[name].group, []).append(name)
    further = groups.pop("", [])
    return [*groups.items(), *([("further", further)] if further else [])]
