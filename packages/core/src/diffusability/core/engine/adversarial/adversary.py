"""A discriminator in training beside a task, with an engine of its own.

Two optimizers are two DeepSpeed engines, and the gradient of one's loss cannot be taken through the other's output. So
the generator's loss is computed on a leaf, a detached copy of the reconstruction; its gradient at the leaf is added to
the gradient that arrives at the reconstruction in the task's own backward pass. At that moment both are known, which
gives the adaptive weight exactly.
"""

import json
import math
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.objective import StepOutput
from diffusability.core.engine.adversarial.discriminator_task import DiscriminatorOutput
from diffusability.core.engine.adversarial.last_layer import LastLayer
from diffusability.core.engine.adversarial.losses import generator_loss
from diffusability.core.engine.checkpoints.engine_state import load_engine, save_engine
from diffusability.core.engine.deepspeed_engine import clip_gradients
from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.metrics_log import Observed
from diffusability.core.engine.task import TaskOutput
from diffusability.core.engine.update_gate import UpdateGate
from diffusability.core.errors import TrainingError
from diffusability.core.specs.adversarial import AdversarialSpec

_COUNTERS = "adversary.json"


@attrs.define(kw_only=True, eq=False)
class Adversary:
    """Gives a task's reconstruction an adversarial gradient, and trains the discriminator. A part of a checkpoint.

    In each micro batch: ``begin`` before the task's forward pass, which calls ``watch``; ``judge`` after it; the task's
    backward pass; then ``backward``. After the task's update, ``update``.

    Attributes:
        engine: the DeepSpeed engine around a DiscriminatorTask.
        spec: losses and weights.
        ranks: this process among the others.
        last_layer: of the decoder, when the weight adapts.
        gate: keeps gradients that are not finite out; it closes after ``max_skipped`` in a row, which stop training.
        num_in_a_row: of these, since the last update.
    """

    engine: Any
    spec: AdversarialSpec
    ranks: Ranks
    last_layer: LastLayer | None
    gate: UpdateGate
    num_in_a_row: int = 0
    _is_active: bool = False
    _seen: StepOutput | None = None
    _loss_scale: Tensor | None = None
    _generator_gradient: Tensor | None = None
    _adaptive_weight: Tensor | None = None
    _output: DiscriminatorOutput | None = None

    def begin(self, step: int) -> None:
        """A micro batch of an optimizer step begins."""
        self._is_active = step >= self.spec.start_step
        self._seen = self._adaptive_weight = self._output = None
        if self._is_active and self.last_layer is not None:
            self.last_layer.watch()

    def watch(self, output: StepOutput, total: Tensor) -> None:
        """Called inside the task's forward pass, with what it computed and the loss that backward starts from."""
        if not self._is_active or not total.requires_grad:
            return
        assert output.reconstruction is not None, "checked against the objective's provides"
        self._seen = output
        total.register_hook(self._keep_scale)  # type: ignore[no-untyped-call]
        output.reconstruction.register_hook(self._with_adversarial_gradient)  # type: ignore[no-untyped-call]

    def judge(self, output: TaskOutput, step: int) -> TaskOutput:
        """The task's output with the losses of both sides among its terms.

        ``adversarial`` is the generator's loss before its weight, ``discriminator`` the discriminator's, ``r1`` the
        penalty before its weight.
        """
        if self._seen is None:
            return output
        assert self._seen.reconstruction is not None
        assert self._seen.images is not None
        images, reconstruction = self._seen.images.detach().float(), self._seen.reconstruction.detach().float()
        leaf = reconstruction.clone().requires_grad_()
        generator = generator_loss(self.spec.loss, self.engine.module.logits(leaf))
        (self._generator_gradient,) = torch.autograd.grad(generator, leaf)
        penalised = self.spec.r1_weight > 0 and (step - self.spec.start_step) % self.spec.r1_every == 0
        judged: DiscriminatorOutput = self.engine(images, reconstruction, penalised)
        self._output = judged
        terms = {"adversarial": generator.detach(), "discriminator": judged.discriminator}
        if judged.r1 is not None:
            terms["r1"] = judged.r1
        monitors = {"logits_real": judged.logits_real, "logits_fake": judged.logits_fake}
        return attrs.evolve(output, terms={**output.terms, **terms}, monitors={**output.monitors, **monitors})

    def _keep_scale(self, gradient: Tensor) -> None:
        """What the engine multiplies losses by: loss scaling, and the mean over micro batches."""
        self._loss_scale = gradient.detach()

    def _with_adversarial_gradient(self, gradient: Tensor) -> Tensor:
        """The gradient at the reconstruction, with the adversarial one at its weight and the engine's scale."""
        assert self._loss_scale is not None
        assert self._generator_gradient is not None
        scale = self._loss_scale.float()
        weight = torch.full_like(scale, self.spec.weight)
        if self.last_layer is not None:
            self._adaptive_weight = self._balance(gradient.float() / scale, self._generator_gradient)
            weight = weight * self._adaptive_weight
        return gradient + (scale * weight * self._generator_gradient).to(gradient.dtype)

    def _balance(self, others: Tensor, generator: Tensor) -> Tensor:
        """``|d others / d w| / (|d generator / d w| + 1e-4)`` at the last layer's weight ``w``, over all ranks."""
        assert self.last_layer is not None
        gradients = torch.stack(self.last_layer.weight_gradients(others, generator))
        if self.ranks.size > 1:
            dist.all_reduce(gradients)
            gradients = gradients / self.ranks.size
        norms = gradients.flatten(1).norm(dim=1)
        weight: Tensor = (norms[0] / (norms[1] + 1e-4)).clamp(0, self.spec.largest_adaptive_weight)
        return weight

    def backward(self, losses: Float[Tensor, " losses"]) -> list[Observed]:
        """The discriminator's backward pass, after the task's; returns what only now can be logged.

        The gradient is poisoned when one of the losses is not finite, as the task's is.
        """
        if self._output is None:
            return []
        self.engine.backward(self._output.loss * torch.where(losses.isfinite().all(), 1.0, math.nan))
        self.gate.before_update(self.engine, clip_gradients(self.engine, self.spec.gradient_clip))
        self._seen = self._output = self._generator_gradient = None
        weight = self._adaptive_weight
        return [] if weight is None else [Observed.of_tensors({"adaptive_weight": weight})]

    def step(self, learning_rate: float) -> None:
        """Counts a micro batch; updates the discriminator after the last one of a step.

        Raises:
            TrainingError: the gradients of too many steps in a row were not finite.
        """
        if not self._is_active:
            return
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        is_last = self.engine.is_gradient_accumulation_boundary()
        self.engine.step()
        if not is_last:
            return
        self.gate.after_update(self.engine)
        self.settle(wait=False)

    def settle(self, wait: bool = True) -> None:
        """Counts the updates whose fate is known by now; all that have ended, when told to wait for the device.

        Raises:
            TrainingError: the gradients of too many steps in a row were not finite.
        """
        for applied in self.gate.known(wait):
            self.num_in_a_row = 0 if applied else self.num_in_a_row + 1
            if self.num_in_a_row >= self.gate.max_skipped:
                raise TrainingError(
                    f"the discriminator's gradient was not finite at {self.num_in_a_row} steps in a row (max_skipped"
                    f" {self.gate.max_skipped}); a lower adversarial.optimizer.lr or a weaker r1_weight often helps"
                )

    def write(self, folder: Path) -> None:
        """Saves the discriminator and its optimizer, from all ranks."""
        save_engine(self.engine, folder, self.ranks)
        if self.ranks.is_main:
            (folder / _COUNTERS).write_text(json.dumps({"num_in_a_row": self.num_in_a_row}, allow_nan=False) + "\n")

    def read(self, folder: Path) -> None:
        """Goes on from a checkpoint, on any number of ranks and at any ZeRO stage."""
        load_engine(self.engine, folder, self.ranks)
        self.num_in_a_row = json.loads((folder / _COUNTERS).read_text())["num_in_a_row"]
        self.gate.start(self.num_in_a_row)
