"""Results as they are written and logged."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from diffusability.core.contracts.evaluator import EvalResult
from diffusability.core.run.values_file import KeptValues
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.core.specs.evaluation_fields import OF_AUTOENCODERS, OF_SAMPLES

#: What numbers depend on beside their evaluator's spec, by the fields that the evaluator needs.
Settings = Callable[[frozenset[str]], Mapping[str, Any]]


def settings_of_samples(settings: Mapping[str, Any]) -> Settings:
    """Sampler and precision, of what depends on generated samples."""
    return lambda needs: settings if needs & OF_SAMPLES else {}


def settings_of_autoencoders(settings: Mapping[str, Any]) -> Settings:
    """Precision, of what depends on what an autoencoder computes."""
    return lambda needs: settings if needs & OF_AUTOENCODERS else {}


def described(result: EvalResult, spec: EvaluatorSpec, settings: Mapping[str, Any]) -> EvalResult:
    """A result with what readers see of it, and all that its number depends on: ``settings`` are beside ``spec``."""
    info = result.info or spec.metric_info(result.metric)
    return attrs.evolve(result, info=info, spec={"kind": spec.kind, **result.spec, **settings})


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
        if result.note:
            entry["note"] = result.note
        if result.info is not None:
            entry["info"] = result.info.as_json()
        content[result.metric] = entry | {"num_samples": result.num_samples, "spec": result.spec}
    return content


def notes(results: Sequence[EvalResult]) -> list[str]:
    """What results say beside their numbers: a line for each note, with the metrics that it is of."""
    concerned: dict[str, list[str]] = {}
    for result in results:
        if result.note:
            concerned.setdefault(result.note, []).append(result.metric)
    return [f"{', '.join(metrics)}: {note}" for note, metrics in concerned.items()]


def kept_values(results: Sequence[EvalResult], images: Mapping[int, int]) -> KeptValues:
    """What ``values.npz`` holds beside them; ``images`` are digests of the real images by place."""
    metrics = {result.metric: result.values for result in results if result.values is not None}
    return KeptValues(metrics=metrics, images=images)


def scalar_values(results: Sequence[EvalResult]) -> Mapping[str, float]:
    """The results that are numbers, by metric."""
    return {result.metric: result.value for result in results if result.value is not None}
