"""How straight the trajectories are along which a trained denoiser's ODE leads from noise to data."""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.velocity_model import data_estimate
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.eval.specs.spectra import SamplingPathSpec
from diffusability.eval.streaming.sample_mean import SampleMean


def path_straightness(states: Float[Tensor, "k n d"], times: Float[Tensor, " k"]) -> Float[Tensor, " n"]:
    """Mean squared deviation per dimension of the velocity from the straight line between the ends of each trajectory.

    ``S = int |(z_1 - z_0) - v(z_t, t)|^2 dt / d`` (Liu et al. 2023, "Flow Straight and Fast", section 2.2), with the
    velocity of each step between the ``k`` states as it was taken; over trajectories that end before time 1, relative
    to their own length of time. 0 is straight.
    """
    steps = times[1:] - times[:-1]
    velocities = (states[1:] - states[:-1]) / steps[:, None, None]
    straight = (states[-1] - states[0]) / (times[-1] - times[0])
    squares = (velocities - straight).square().mean(2)
    return (squares * steps[:, None]).sum(0) / (times[-1] - times[0])


def path_efficiency(states: Float[Tensor, "k n d"]) -> Float[Tensor, " n"]:
    """Distance of the ends over the length of each trajectory, in (0, 1]; 1 is straight. 1 where nothing moves."""
    length = (states[1:] - states[:-1]).norm(dim=2).sum(0)
    ends = (states[-1] - states[0]).norm(dim=1)
    return torch.where(length > 0, ends / length.clamp_min(1e-300), torch.ones_like(length))


class SamplingPath(Evaluator):
    """``sampling_straightness`` and ``sampling_efficiency`` of a trained denoiser, without guidance.

    Euler's method carries noise to data along the trained ODE in normalised latents; of each trajectory the deviation
    of its velocity from a straight line (``path_straightness``: the same number that ``trajectory_straightness`` is of
    a Gaussian's exact ODE) and the distance of its ends over its length (``path_efficiency``). Straight trajectories
    need few steps. Classes of a conditional model are drawn as they are for samples.
    """

    def __init__(self, spec: SamplingPathSpec) -> None:
        self.spec = spec
        self._straightness, self._efficiency = SampleMean(), SampleMean()

    def update(self, batch: EvaluationBatch) -> None:
        """Follows one trajectory for each of the batch's indices."""
        model = batch.diffusion_model
        assert model is not None
        randomness = BatchRandomness(seed=self.spec.seed, step=0, positions=batch.indices)
        device = next((weight.device for weight in model.denoiser.parameters()), torch.device("cpu"))
        noise = randomness.normal("sampling", model.latent_shape, device)
        labels = None
        if model.num_classes is not None:
            labels = randomness.integers("sampling-labels", model.num_classes, device)
        velocities = model.velocity_model()
        times = velocities.times(self.spec.steps, self.spec.time_shift)
        state, estimate = velocities.start(noise), None
        states = [state]
        for time, next_time in pairwise(times):
            at = torch.full((len(state),), time, dtype=torch.float64, device=device)
            velocity = velocities(state, at, labels, estimate)
            if velocities.self_conditioning:
                estimate = data_estimate(velocity, state, at)
            state = state + (next_time - time) * velocity
            states.append(state)
        path = torch.stack(states).flatten(2).double()
        exact = torch.tensor(times, dtype=torch.float64, device=device)
        self._straightness.update(batch.indices, path_straightness(path, exact))
        self._efficiency.update(batch.indices, path_efficiency(path))

    def state(self) -> Any:
        return self._straightness, self._efficiency

    def merge(self, state: Any) -> None:
        self._straightness.merge(state[0])
        self._efficiency.merge(state[1])

    def compute(self) -> list[EvalResult]:
        """Both means. Raises DataError when nothing was seen."""
        settings = {"steps": self.spec.steps, "time_shift": self.spec.time_shift, "seed": self.spec.seed}
        return [
            EvalResult(
                metric=metric,
                value=mean.compute(),
                spread=mean.spread(),
                higher_is_better=higher,
                num_samples=mean.count,
                spec={**settings, "spread_over": "bootstrap samples of trajectories"},
                values=mean.values(),
            )
            for metric, mean, higher in (
                ("sampling_straightness", self._straightness, False),
                ("sampling_efficiency", self._efficiency, True),
            )
        ]
