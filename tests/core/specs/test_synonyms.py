"""Keys that other frameworks have: refused with ours; every target that is a path of a spec exists."""

import re

import pytest
from tiny_runs import tiny_spec, write_spec

from diffusability.core.errors import SpecError
from diffusability.core.planning.plan import load_plan
from diffusability.core.specs.synonyms import SYNONYMS


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("stages.pretrain.gradient_accumulation", "here it is engine.micro_batch_size"),
        ("stages.pretrain.accumulate_grad_batches", "here it is engine.micro_batch_size"),
        ("engine.gradient-accumulation-steps", "here it is engine.micro_batch_size"),
        ("stages.pretrain.max_grad_norm", "here it is gradient_clip"),
        ("stages.pretrain.epochs", "here it is steps: optimizer steps"),
        ("engine.mixed_precision", "here it is engine.precision"),
        ("stages.dit.ema.ema_decay", "here it is ema.half_life_steps"),
        ("data.image_size", "here it is data.resolution"),
        ("stages.measure.metrics", "here it is evaluators"),
    ],
)
def test_names_of_other_frameworks_lead_to_ours(place, expected, tmp_path):
    with pytest.raises(SpecError, match=f"unknown key '{place.rpartition('.')[2]}'") as refused:
        load_plan(write_spec(tmp_path, tiny_spec()), [f"{place}=1"])
    assert expected in str(refused.value)


def test_what_they_lead_to_exists(tmp_path):
    """Each dotted path, set in a spec that has the part: its value may be wrong, its name is known."""
    paths = [re.match(r"(?:engine|data|learning_rate|ema|checkpoint)\.\w+", target) for target in SYNONYMS.values()]
    places = {path[0] if path[0].startswith(("engine", "data")) else f"stages.dit.{path[0]}" for path in paths if path}
    assert len(places) >= 8
    for place in places - {"data.num_workers", "data.resolution"}:
        with pytest.raises(SpecError) as refused:
            load_plan(write_spec(tmp_path, tiny_spec()), [f"{place}={{a: 1}}"])
        assert f"unknown key '{place.rpartition('.')[2]}'" not in str(refused.value)
