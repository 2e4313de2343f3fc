"""What an engine's settings may say, and what contradicts them."""

import pytest
from pydantic import ValidationError

from diffusability.core.engine.deepspeed_engine import deepspeed_config
from diffusability.core.specs.engine import EngineSpec
from diffusability.core.specs.stages import StageSpec

ADVICE = {
    "precision bf16-weights": ({"precision": "bf16-weights"}, "'bf16-weights' needs zero_stage 1, 2 or 3"),
    "precision fp16": ({"precision": "fp16"}, "'fp16' needs zero_stage 1, 2 or 3"),
    "optimizer without ZeRO": ({"offload": {"optimizer": "cpu"}}, "offload.optimizer needs zero_stage 1, 2 or 3"),
    "optimizer to nvme at 2": (
        {"zero_stage": 2, "offload": {"optimizer": "nvme", "nvme_path": "/disk"}},
        "offload.optimizer 'nvme' needs zero_stage 3, and zero_stage is 2",
    ),
    "parameters at 2": ({"zero_stage": 2, "offload": {"parameters": "cpu"}}, "'cpu' needs zero_stage 3"),
    "nvme without a path": ({"zero_stage": 3, "offload": {"optimizer": "nvme"}}, "needs an 'nvme_path'"),
    "a path without nvme": (
        {"zero_stage": 3, "offload": {"optimizer": "cpu", "nvme_path": "/disk"}},
        "nothing is offloaded to nvme",
    ),
    "empty offload": ({"zero_stage": 3, "offload": {}}, "nothing is offloaded; give"),
    "offload in DeepSpeed's words": (
        {"deepspeed": {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}},
        "is set by engine.offload.optimizer, not here",
    ),
    "precision in DeepSpeed's words": ({"deepspeed": {"data_types": {}}}, "is set by engine.precision, not here"),
    "checkpointing in DeepSpeed's words": (
        {"deepspeed": {"activation_checkpointing": {}}},
        "is set by engine.activation_checkpointing, not here",
    ),
    "unknown precision": ({"precision": "float8"}, "Input should be 'auto', 'fp32', 'bf16', 'bf16-weights' or 'fp16'"),
}


@pytest.mark.parametrize("name", ADVICE)
def test_what_cannot_be_is_refused_with_what_could(name):
    """Each setting alone, and the words that tell what is wrong with it."""
    settings, message = ADVICE[name]
    with pytest.raises(ValidationError) as error:
        EngineSpec.model_validate(settings)
    assert message in str(error.value)


def test_how_to_compute_is_no_part_of_what_a_stage_is():
    """Sharding, offload, checkpointing and compilation keep a finished stage; precision does not."""
    plain = EngineSpec().identity()
    means = {"zero_stage": 3, "offload": {"optimizer": "cpu"}, "activation_checkpointing": True, "compile": True}
    assert EngineSpec.model_validate(means).identity() == plain
    assert EngineSpec(precision="bf16-weights", zero_stage=1).identity() != plain


def test_further_settings_lie_within_our_own():
    """A buffer size of DeepSpeed's beside the target that the spec names."""
    objective = {"kind": "reconstruction", "autoencoder": {"kind": "compact-kl"}}
    stage = StageSpec.model_validate({"kind": "train", "steps": 1, "objective": objective})
    engine = EngineSpec.model_validate(
        {
            "zero_stage": 3,
            "offload": {"optimizer": "nvme", "nvme_path": "/disk"},
            "deepspeed": {"zero_optimization": {"offload_optimizer": {"buffer_count": 7}}},
        }
    )
    offload = deepspeed_config(stage, engine, 1)["zero_optimization"]["offload_optimizer"]
    assert (offload["device"], offload["nvme_path"], offload["buffer_count"]) == ("nvme", "/disk", 7)
