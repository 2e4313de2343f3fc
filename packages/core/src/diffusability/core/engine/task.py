"""The one module that DeepSpeed sees: an objective with its regularizers."""

from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffusability.core.contracts.objective import Batch, Objective, StepOutput
from diffusability.core.contracts.regularizer import Regularizer
from diffusability.core.errors import TrainingError
from diffusability.core.plugins.contract_checks import place_of, plugin_named
from diffusability.core.shapes import Scalar
from diffusability.core.specs.components import RegularizerSpec


@attrs.frozen(kw_only=True, eq=False, slots=False)  # ZeRO-3's hooks read vars() of what a module returns
class TaskOutput:
    """What one forward pass of a task returns.

    Attributes:
        loss: the weighted total that is minimised.
        terms: the objective's losses, and each regularizer's term before its weight, by name; detached.
        monitors: further numbers for the log, among them the factor of each weight that adapts; detached.
    """

    loss: Scalar
    terms: Mapping[str, Tensor]
    monitors: Mapping[str, Tensor]


class TrainTask(nn.Module):
    """Computes the losses of a batch by name and their weighted total, under autocast when asked."""

    def __init__(
        self,
        objective: Objective,
        regularizers: Mapping[str, Regularizer],
        specs: Sequence[RegularizerSpec],
        autocast_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.objective = objective
        self.regularizers = nn.ModuleDict(regularizers)
        self.specs = {spec.label: spec for spec in specs}
        self.autocast_dtype = autocast_dtype
        #: Told, inside the forward pass, of what the objective computed and of the total loss.
        self.observer: Callable[[StepOutput, Tensor], None] | None = None

    def forward(self, batch: Batch) -> TaskOutput:
        """One forward pass; every use of parameters in a step happens inside it, as ZeRO requires."""
        device = batch.data.device.type
        with torch.autocast(device, dtype=self.autocast_dtype or torch.bfloat16, enabled=bool(self.autocast_dtype)):
            output = self.objective(batch)
            terms: dict[str, Tensor] = {name: _scalar(name, loss) for name, loss in output.losses.items()}
            monitors = dict(output.monitors)
            total: Tensor = torch.stack([loss.float() for loss in terms.values()]).sum()
            for name, regularizer in self.regularizers.items():
                spec = self.specs[name]
                weight = spec.weight * spec.schedule.factor(batch.randomness.step)
                if weight == 0 and not any(parameter.requires_grad for parameter in regularizer.parameters()):
                    continue
                if name in output.losses:
                    raise TrainingError(
                        f"regularizer {name!r} has the name of a loss of {type(self.objective).__name__}; give it"
                        " another 'name'"
                    )
                term = _scalar(name, regularizer(output, self.objective))
                if self.training and weight > 0:
                    _refuse_without_gradient(spec, regularizer, term)
                terms[name] = term
                factor: Tensor | None = regularizer.factor()  # type: ignore[operator]
                if factor is not None:
                    monitors[f"{name}_factor"] = factor
                    term = term * factor
                total = total + weight * term.float()
        if self.observer is not None and self.training:
            self.observer(output, total)
        return TaskOutput(
            loss=total,
            terms={name: term.detach().float() for name, term in terms.items()},
            monitors={name: value.detach().float() for name, value in monitors.items()},
        )


def _refuse_without_gradient(spec: RegularizerSpec, regularizer: nn.Module, term: Tensor) -> None:
    """Raises TrainingError when a term depends on nothing that is trained. A constant 0 rests in this step."""
    has_content = type(term) is Tensor and not term.is_meta  # costs are counted on tensors without
    if torch.is_grad_enabled() and not term.requires_grad and has_content and term.item() != 0:
        raise TrainingError(
            f"{plugin_named(type(spec), spec.group)}: {type(regularizer).__name__}.forward returned a term without a"
            f" gradient, which would train nothing ({place_of(type(regularizer).forward)}); expected one that depends"
            " on what is trained: is it detached, or of a part that is frozen?"
        )


def _scalar(name: str, term: object) -> Float[Tensor, ""]:
    if not isinstance(term, Tensor) or term.ndim != 0:
        actual = f"shape {tuple(term.shape)}" if isinstance(term, Tensor) else type(term).__name__
        raise TrainingError(f"loss term {name!r} must be a scalar tensor, got {actual}")
    return term
