"""What a person sees while a stage trains: image grids, and metrics of the weights that would be saved."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path

import attrs
import torch

from diffusability.core.dataset import Dataset
from diffusability.core.engine.batches import moved, stacked
from diffusability.core.engine.ema import ExponentialMovingAverage
from diffusability.core.engine.metrics_log import MetricsLog
from diffusability.core.engine.task import TrainTask
from diffusability.core.image_grid import save_rows
from diffusability.core.objective import Batch
from diffusability.core.randomness import BatchRandomness
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.components import Split
from diffusability.core.specs.plan import PlannedStage
from diffusability.core.specs.stages import EncodeStage, TrainStage
from diffusability.core.specs.training import InTrainingEvaluationSpec, PreviewSpec
from diffusability.core.stages.evaluate import (
    autoencoder_batches,
    evaluate,
    generation_batches,
    image_batches,
    samples_of,
    scalar_values,
)
from diffusability.core.stages.evaluation_data import fixed_order
from diffusability.core.stages.surroundings import Surroundings, build_sampler

_EVALUATION_BATCH = 64


@attrs.define(kw_only=True, eq=False, slots=False)
class Previews:
    """A hook of the training loop, at work on the first rank while the others wait.

    Attributes:
        stage: the training stage.
        around: its run.
        task: what is trained.
        dataset: what it is trained on.
        ema: the averaged weights, which are shown when there are any.
        log: where metrics go.
        directory: folder of the stage.
    """

    stage: PlannedStage
    around: Surroundings
    task: TrainTask
    dataset: Dataset
    ema: ExponentialMovingAverage | None
    log: MetricsLog
    directory: Path

    def __call__(self, done: int) -> None:
        """Draws and evaluates when it is time to."""
        spec = self.stage.spec
        assert isinstance(spec, TrainStage)
        last = done == spec.steps
        if self.around.ranks.is_main:
            if spec.preview is not None and (last or done % spec.preview.every == 0):
                with self._shown_weights():
                    self._draw(spec.preview, done)
            if spec.evaluate is not None and (last or done % spec.evaluate.every == 0):
                with self._shown_weights():
                    self._evaluate(spec.evaluate, done)

    @contextmanager
    def _shown_weights(self) -> Iterator[None]:
        """Evaluation mode, with the averaged weights where there are any; training mode again afterwards."""
        applied = self.ema.applied(self.task) if self.ema is not None else nullcontext()
        self.task.eval()
        try:
            with applied, torch.no_grad():
                yield
        finally:
            self.task.train()

    @cached_property
    def _decode(self) -> Callable[[Latents], Images] | None:
        return self.around.decoder(self.stage) if self.stage.data.holds == "latents" else None

    def _draw(self, spec: PreviewSpec, done: int) -> None:
        context = self.around.context(self.stage)
        dataset = self.dataset
        if self.stage.data.holds == "images":
            dataset = self.stage.data.build(context, "validation")
        examples = [dataset[index] for index in fixed_order(len(dataset), spec.num_images)]
        data, labels = stacked(examples)
        randomness = BatchRandomness(seed=self.stage.seed, step=0, positions=range(len(examples)))
        batch = moved(Batch(data=data, labels=labels, randomness=randomness), self.around.ranks.device)
        sampler = build_sampler(spec.sampler, context) if self._decode is not None else None
        rows = self.task.objective.preview(batch, sampler, self._decode)
        if rows:
            save_rows(rows, self.directory / "samples" / f"step-{done:06d}.png")

    def _evaluate(self, spec: InTrainingEvaluationSpec, done: int) -> None:
        count = max(evaluator.num_samples for evaluator in spec.evaluators)
        context = self.around.context(self.stage)
        data_stage = self.stage if self._decode is None else _encode_stage(self.stage)
        split: Split = "validation" if self._decode is None else "train"
        images = image_batches(
            data_stage.data.build(self.around.context(data_stage), split),
            count,
            _EVALUATION_BATCH,
            self.around.ranks.device,
            lambda reports: None,
            lambda done: None,
        )
        if self._decode is None:
            assert self.task.objective.autoencoder is not None
            batches = autoencoder_batches(self.task.objective.autoencoder, images)
        else:
            sampler = build_sampler(spec.sampler, context)
            generated = samples_of(
                self.task.objective.diffusion_model(),
                sampler,
                self._decode,
                self.stage.seed,
                _EVALUATION_BATCH,
                self.around.ranks.device,
                self.stage.engine.precision,
            )
            batches = generation_batches(images, generated)
        results, _ = evaluate(spec.evaluators, lambda evaluator: evaluator.build(context), batches)
        metrics = {f"eval/{metric}": value for metric, value in scalar_values(results).items()}
        self.log.write({"step": done, **metrics})


def _encode_stage(stage: PlannedStage) -> PlannedStage:
    return next(used for used in stage.inputs.values() if isinstance(used.spec, EncodeStage))
