from typing import Any

import pytest
from pydantic import ValidationError

from diffusability.core.contracts.evaluator import Evaluator
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import EvaluatorSpec
from diffusability.eval.specs.generation import SlicedWassersteinSpec

KINDS = ("psnr", "ssim", "kl-per-dim", "dct-spectrum", "chop-off", "sliced-wasserstein")


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_found_and_built(kind: str) -> None:
    """Each kind through the plugin door, by its kind alone; what it builds needs what its spec says."""
    spec = EvaluatorSpec.model_validate({"kind": kind})
    evaluator = spec.build(BuildContext())
    assert isinstance(evaluator, Evaluator)
    assert evaluator.needs == spec.needs
    assert evaluator.needs


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"kind": "dct-spectrum", "block_size": 3}, ("block_size",)),
        ({"kind": "chop-off", "shares": [0.5, 0.25]}, ("shares",)),
        ({"kind": "chop-off", "shares": [1.0]}, ("shares",)),
        ({"kind": "chop-off", "shares": []}, ("shares",)),
        ({"kind": "chop-off", "shares": [1.0, 0.5, 0.5]}, ("shares",)),
        ({"kind": "chop-off", "shares": [1.0, 0.0]}, ("shares", 1)),
        ({"kind": "chop-off", "shares": [1.0, 1.5]}, ("shares", 1)),
        ({"kind": "chop-off", "shape": "round"}, ("shape",)),
        ({"kind": "chop-off", "max_psnr": 0}, ("max_psnr",)),
        ({"kind": "sliced-wasserstein", "num_samples": 1000, "max_patches": 999}, ("max_patches",)),
        ({"kind": "psnr", "data_range": 1}, ("data_range",)),
    ],
)
def test_mistakes_are_reported_at_their_place(spec: dict[str, Any], path: tuple[str | int, ...]) -> None:
    """The path of the one error of each wrong spec."""
    with pytest.raises(ValidationError) as caught:
        EvaluatorSpec.model_validate(spec)
    assert [error["loc"] for error in caught.value.errors()] == [path]


def test_patches_of_an_image_are_limited_by_the_memory_of_the_set() -> None:
    """The paper's 128 where there is room, fewer for more images, at least 1."""
    resolved = [SlicedWassersteinSpec(num_samples=count).resolved_patches_per_image() for count in (100, 1024, 32768)]
    assert resolved == [128, 32, 1]
