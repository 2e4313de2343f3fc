"""What a metric is called and what it means: as its results say, or else as an installed evaluator does."""

from functools import cache

from diffusability.core.errors import PluginError
from diffusability.core.plugins import registry
from diffusability.core.run.results import Metric
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.core.specs.metric_info import MetricInfo


def info_of(metric: Metric) -> MetricInfo:
    """What is known of a metric of a run."""
    return metric.info or named_info(metric.name)


def named_info(name: str) -> MetricInfo:
    """What is known of a metric by its name alone, as of results that were written without: of one that no installed
    evaluator declares, a label made from the name.
    """
    known = _installed(tuple(registry.installed("evaluators")))
    return known.get(name) or MetricInfo(label=_in_words(name))


@cache
def _installed(plugins: tuple[registry.Plugin, ...]) -> dict[str, MetricInfo]:
    infos: dict[str, MetricInfo] = {}
    for kind in dict.fromkeys(plugin.kind for plugin in plugins):
        try:
            spec_class = registry.load("evaluators", kind, EvaluatorSpec)
        except PluginError:
            continue  # a broken plugin breaks no report; `dfz plugins --check` names it
        infos = {**spec_class.metrics, **infos}
    return infos


def _in_words(name: str) -> str:
    label = name.removesuffix("_curve").replace("_", " ").strip() or name
    return label[:1].upper() + label[1:]
