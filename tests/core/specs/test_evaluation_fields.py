import attrs

from diffusability.core.contracts.evaluator import EvaluationBatch
from diffusability.core.specs.evaluation_fields import (
    GENERATED,
    HELD_OUT,
    MODELS,
    OF_DENOISER_EVALUATION,
    OF_EVALUATE_STAGES,
    OF_IMAGES,
)


def test_each_field_of_a_batch_is_in_one_group():
    """Of real images, held out, generated, or a model; all of them are there where a stage evaluates a denoiser."""
    fields = {field.name for field in attrs.fields(EvaluationBatch)} - {"indices"}
    groups = (OF_IMAGES, HELD_OUT, GENERATED, MODELS)
    assert sum(map(len, groups)) == len(fields)
    assert frozenset().union(*groups) == fields == OF_DENOISER_EVALUATION | OF_EVALUATE_STAGES
