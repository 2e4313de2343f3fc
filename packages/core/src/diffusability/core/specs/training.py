"""How a training stage is optimised, logged and saved."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from diffusability.core.specs.base import Spec
from diffusability.core.specs.components import AnyEvaluator, AnySampler


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
