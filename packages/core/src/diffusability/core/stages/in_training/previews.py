"""What a person sees while a stage trains: grids of images of the weights that would be saved."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import attrs
import torch

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.dataset import Dataset
from diffusability.core.contracts.objective import Batch, Objective
from diffusability.core.engine.batches import moved, stacked
from diffusability.core.engine.metrics_log import MetricsLog
from diffusability.core.errors import SpecError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.planning.guidance_check import samplers_of
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.sampling.image_grid import save_rows
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.guidance import needs_classes, no_classes_message
from diffusability.core.specs.stages import TrainStage
from diffusability.core.specs.training import PreviewSpec
from diffusability.core.stages.evaluation_data import fixed_order
from diffusability.core.stages.in_training.evaluation_in_training import InTrainingEvaluation
from diffusability.core.stages.in_training.inference_copy import InferenceCopy
from diffusability.core.stages.runtime import StageRuntime, build_sampler


@attrs.define(kw_only=True, eq=False, slots=False)
class Previews:
    """A hook of the training loop: draws on the first rank while the others wait, has all of them evaluate.

    Attributes:
        stage: the training stage.
        runtime: its run.
        shown: what is trained, with the weights that would be saved.
        dataset: what it is trained on.
        log: where metrics go.
        directory: folder of the stage.
    """

    stage: PlannedStage
    runtime: StageRuntime
    shown: InferenceCopy
    dataset: Dataset
    log: MetricsLog
    directory: Path

    def __call__(self, done: int) -> None:
        """Draws and evaluates when it is time to."""
        spec = self.stage.spec
        assert isinstance(spec, TrainStage)
        draws = spec.preview is not None and _is_due(done, spec.preview.every, spec.steps)
        evaluates = spec.evaluate is not None and _is_due(done, spec.evaluate.every, spec.steps)
        if not draws and not evaluates:
            return
        objective = self.shown.refreshed_everywhere() if evaluates else self.shown.refreshed()
        if objective is None:
            return
        with torch.no_grad():
            if draws and spec.preview is not None and self.runtime.ranks.is_main:
                self._draw(objective, spec.preview, done)
            if evaluates and spec.evaluate is not None:
                self._evaluation.write(objective, spec.evaluate, done)

    @cached_property
    def _decoder(self) -> Autoencoder | None:
        return self.runtime.stage_autoencoder(self.stage) if self.stage.data.holds == "latents" else None

    @cached_property
    def _evaluation(self) -> InTrainingEvaluation:
        return InTrainingEvaluation(stage=self.stage, runtime=self.runtime, log=self.log, decoder=self._decoder)

    @property
    def _decode(self) -> Callable[[Latents], Images] | None:
        return None if self._decoder is None else self._decoder.decode

    def _draw(self, objective: Objective, spec: PreviewSpec, done: int) -> None:
        context = self.runtime.context(self.stage)
        dataset = self.dataset
        if self.stage.data.holds == "images":
            dataset = self.stage.data.build(context, "validation")
        examples = [dataset[index] for index in fixed_order(dataset, spec.num_images)]
        data, labels = stacked(examples)
        randomness = BatchRandomness(seed=self.stage.seed, step=0, positions=range(len(examples)))
        batch = moved(Batch(data=data, labels=labels, randomness=randomness), self.runtime.ranks.device)
        sampler = build_sampler(spec.sampler, context) if self._decode is not None else None
        rows = objective.preview(batch, sampler, self._decode)
        if rows:
            path = self.directory / "samples" / f"step-{done:06d}.png"
            save_rows(rows, path)
            self.log.show(done, "samples", path)


def refuse_guidance_without_classes(spec: TrainStage, objective: Objective) -> None:
    """Refuses, before training, samplers that guide by classes of a model without. Raises SpecError."""
    guided = [(path, sampler) for path, sampler in samplers_of(spec) if needs_classes(sampler)]
    if guided and spec.objective.trains_on == "latents" and objective.diffusion_model().num_classes is None:
        path, sampler = guided[0]
        problem = no_classes_message(sampler.guidance_scale, "these data have no classes (num_classes is None)")
        raise SpecError(f"{'.'.join(map(str, path))}.{problem}")


def _is_due(done: int, every: int, last: int) -> bool:
    return done % every == 0 or done == last
