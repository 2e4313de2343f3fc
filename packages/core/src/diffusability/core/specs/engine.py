"""Where, in which precision, and by which means a stage computes."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from diffusability.core.specs.base import Incidental, LocalPath, Spec

#: DeepSpeed settings that the spec already covers, and where.
_SET_ELSEWHERE = {
    "train_batch_size": "batch_size",
    "train_micro_batch_size_per_gpu": "engine.micro_batch_size",
    "gradient_accumulation_steps": "batch_size and engine.micro_batch_size",
    "gradient_clipping": "gradient_clip",
    "optimizer": "optimizer",
    "scheduler": "learning_rate",
    "zero_optimization.stage": "engine.zero_stage",
    "zero_optimization.offload_optimizer.device": "engine.offload.optimizer",
    "zero_optimization.offload_optimizer.nvme_path": "engine.offload.nvme_path",
    "zero_optimization.offload_param.device": "engine.offload.parameters",
    "zero_optimization.offload_param.nvme_path": "engine.offload.nvme_path",
    "zero_optimization.compute_grad_norm": "what watches for gradients that are not finite",
    "bf16": "engine.precision",
    "fp16.enabled": "engine.precision",
    "torch_autocast": "engine.precision",
    "data_types": "engine.precision",
    "activation_checkpointing": "engine.activation_checkpointing",
    "compile": "engine.compile",
    "checkpoint": "checkpoint",
}

OffloadTarget = Literal["cpu", "nvme"]

Precision = Literal["auto", "fp32", "bf16", "bf16-weights", "fp16"]

#: What suffices where nothing is trained.
InferencePrecision = Literal["auto", "fp32", "bf16"]

#: Precisions whose weights are rounded; ZeRO keeps their float32 masters.
ROUNDED_WEIGHTS = ("bf16-weights", "fp16")


class OffloadSpec(Spec):
    """What leaves the accelerator's memory. It costs time, and changes results by rounding only."""

    optimizer: OffloadTarget | None = Field(
        None, description="AdamW's state and the update: cpu at zero_stage 1 to 3, nvme at 3"
    )
    parameters: OffloadTarget | None = Field(None, description="the weights between their uses, at zero_stage 3")
    nvme_path: Annotated[str | None, LocalPath()] = Field(
        None, description="an existing folder on the disk to which 'nvme' offloads"
    )

    @model_validator(mode="after")
    def _has_a_path_for_nvme(self) -> "OffloadSpec":
        uses_nvme = "nvme" in (self.optimizer, self.parameters)
        if uses_nvme and self.nvme_path is None:
            raise ValueError("offloading to nvme needs an 'nvme_path', a folder on that disk")
        if not uses_nvme and self.nvme_path is not None:
            raise ValueError(f"nvme_path {self.nvme_path!r} is given, but nothing is offloaded to nvme")
        if self.optimizer is None and self.parameters is None:
            raise ValueError("nothing is offloaded; give 'optimizer' or 'parameters', each cpu or nvme")
        return self


class EngineSpec(Spec):
    """Where and in which precision a stage computes."""

    precision: Precision = Field(
        "auto",
        description="auto: bf16 where the device has instructions for it (GPUs, newer CPUs), else fp32; bf16: autocast"
        " over float32 weights; fp32: float32 throughout; bf16-weights: weights and their gradients are bf16, with"
        " float32 masters; fp16: the same in fp16 with loss scaling, on CUDA",
    )
    zero_stage: Annotated[Literal[0, 1, 2, 3], Incidental()] = Field(
        0, description="DeepSpeed ZeRO: 1 shards the optimizer's state over ranks, 2 gradients too, 3 weights too"
    )
    offload: Annotated[OffloadSpec | None, Incidental()] = Field(
        None, description="what to keep outside of the accelerator's memory"
    )
    activation_checkpointing: Annotated[bool, Incidental()] = Field(
        False, description="compute the activations of repeated blocks again in the backward pass, to save memory"
    )
    compile: Annotated[bool, Incidental()] = Field(False, description="torch.compile the repeated blocks of the models")
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

    @model_validator(mode="after")
    def _zero_can_do_it(self) -> "EngineSpec":
        problems = list(self._beyond_zero())
        if problems:
            raise ValueError("; ".join(f"{what}, and zero_stage is {self.zero_stage}" for what in problems))
        return self

    def _beyond_zero(self) -> Iterator[str]:
        """What is asked of DeepSpeed and not to be had at this ZeRO stage."""
        if self.precision in ROUNDED_WEIGHTS and self.zero_stage == 0:
            yield f"precision {self.precision!r} needs zero_stage 1, 2 or 3, which keep the float32 masters"
        if self.offload is not None:
            if self.offload.optimizer is not None and self.zero_stage == 0:
                yield "offload.optimizer needs zero_stage 1, 2 or 3"
            elif self.offload.optimizer == "nvme" and self.zero_stage != 3:
                yield "offload.optimizer 'nvme' needs zero_stage 3"
            if self.offload.parameters is not None and self.zero_stage != 3:
                yield f"offload.parameters {self.offload.parameters!r} needs zero_stage 3"


def _has(settings: Mapping[str, Any], dotted: str) -> bool:
    first, _, rest = dotted.partition(".")
    inner = settings.get(first)
    return first in settings and (not rest or (isinstance(inner, Mapping) and _has(inner, rest)))
