"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

import math

from diffusability.core.specs.training import LearningRateSpec


def learning_rate_factor(spec: LearningRateSpec, step: int, total_steps: int) -> float:
    """Multiplier of the peak learning rate at an optimizer step (from 0), in [0, 1].

    Warm-up is linear and reaches 1 at step ``warmup_steps - 1``; the decay reaches ``final_share`` at the last step.
    """
    if step < spec.warmup_steps:
        return (step + 1) / spec.warmup_steps
    if spec.decay == "none":
        return 1.0
    progress = (step + 1 - spec.warmup_steps) / max(1, total_steps - spec.warmup_steps)
    remaining = 1 - progress if spec.decay == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return spec.final_share + (1 - spec.final_share) * remaining
