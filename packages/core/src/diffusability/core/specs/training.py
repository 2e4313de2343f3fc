"""How a training stage is optimised, logged and saved."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from diffusability.core.specs.base import Incidental, Spec
from diffusability.core.specs.components import AnyEvaluator, AnySampler

#: DeepSpeed settings that a spec states in its own words, and where.
_SET_ELSEWHERE = {
    "train_batch_size": "batch_size",
    "train_micro_batch_size_per_gpu": "engine.micro_batch_size",
    "gradient_accumulation_steps": "batch_size and engine.micro_batch_size",
    "gradient_clipping": "gradient_clip",
    "optimizer": "optimizer",
    "scheduler": "learning_rate",
    "zero_optimization.stage": "engine.zero_stage",
    "zero_optimization.compute_grad_norm": "what watches for gradients that are not finite",
    "bf16": "engine.precision",
    "fp16": "engine.precision",
    "torch_autocast": "engine.precision",
}


class EngineSpec(Spec):
    """Where and in which precision a stage computes."""

    precision: Literal["fp32", "bf16"] = Field(
        "bf16", description="bf16: autocast over float32 weights; fp32: float32 throughout"
    )
    zero_stage: Annotated[Literal[0, 1, 2, 3], Incidental()] = Field(
        0, description="DeepSpeed ZeRO: 1 shards the optimizer's state over ranks, 2 gradients too, 3 weights too"
    )
    deepspeed: dict[str, Any] = Field(
        default_factory=dict, description="further DeepSpeed settings, as in its JSON configuration"
    )
    micro_batch_size: Annotated[PositiveInt | None, Incidental()] = Field(
        None, description="samples per rank and forward pass; smaller ones accumulate to batch_size"
    )

    @field_validator("deepspeed")
    @classmethod
    def _does_not_contradict(cls, settings: dict[str, Any]) -> dict[str, Any]:
        taken = [(key, where) for key, where in _SET_ELSEWHERE.items() if _has(settings, key)]
        if taken:
            raise ValueError("; ".join(f"{key!r} is set by {where}, not here" for key, where in taken))
        return settings


def _has(settings: Mapping[str, Any], dotted: str) -> bool:
    first, _, rest = dotted.partition(".")
    inner = settings.get(first)
    return first in settings and (not rest or (isinstance(inner, Mapping) and _has(inner, rest)))


class OptimizerSpec(Spec):
    """AdamW (Loshchilov & Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"
    lr: PositiveFloat = Field(1e-4, description="peak learning rate; never scaled by the batch")
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(0.01, ge=0)
    eps: PositiveFloat = 1e-8


class LearningRateSpec(Spec):
    """Linear warm-up from 0, then a decay to ``final_share`` of the peak at the last step."""

    warmup_steps: int = Field(0, ge=0)
    decay: Literal["none", "linear", "cosine"] = "none"
    final_share: float = Field(0.0, ge=0, le=1)


class EMASpec(Spec):
    """Exponential moving average of the weights; it is what later stages get."""

    half_life_steps: PositiveFloat


class CheckpointSpec(Spec):
    """When training saves itself, and how many checkpoints stay."""

    every: PositiveInt = Field(1000, description="optimizer steps between checkpoints")
    keep: PositiveInt = 2


class PreviewSpec(Spec):
    """Image grids drawn while training."""

    every: PositiveInt = Field(1000, description="optimizer steps between grids; the last step draws one too")
    num_images: PositiveInt = Field(8, le=256)
    sampler: AnySampler | None = Field(None, description="for denoisers; default: euler with 40 steps")


class InTrainingEvaluationSpec(Spec):
    """Evaluators that run every so many steps of training, on the weights that would be saved."""

    every: PositiveInt
    evaluators: tuple[AnyEvaluator, ...] = Field(min_length=1)
    sampler: AnySampler | None = Field(None, description="for denoisers; default: euler with 40 steps")
