"""Results as they are written and logged."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from diffusability.core.evaluator import EvalResult

#: Fields of a batch that depend on how samples were made.
_OF_SAMPLES = frozenset({"generated", "generated_labels", "diffusion_model", "sampler"})


def described(result: EvalResult, kind: str, needs: frozenset[str], settings: Mapping[str, Any]) -> EvalResult:
    """A result with all that its number depends on: ``settings`` are those of sampling."""
    spec = {"kind": kind, **result.spec}
    return attrs.evolve(result, spec={**spec, **settings} if needs & _OF_SAMPLES else spec)


def results_json(results: Sequence[EvalResult]) -> dict[str, Any]:
    """Results in the form of ``results.json``."""
    content: dict[str, Any] = {}
    for result in results:
        entry: dict[str, Any] = (
            {"value": result.value} if result.curve is None else {"curve": attrs.asdict(result.curve)}
        )
        if result.spread is not None:
            entry["spread"] = result.spread
        entry |= {"unit": result.unit, "higher_is_better": result.higher_is_better}
        content[result.metric] = entry | {"num_samples": result.num_samples, "spec": result.spec}
    return content


def scalar_values(results: Sequence[EvalResult]) -> Mapping[str, float]:
    """The results that are numbers, by metric."""
    return {result.metric: result.value for result in results if result.value is not None}
