"""What a person sees while a stage trains: image grids, and metrics of the weights that would be saved."""

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
from diffusability.core.errors import NotFiniteError, SpecError
from diffusability.core.numerics.randomness import BatchRandomness
from diffusability.core.planning.guidance_check import samplers_of
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.sampling.generation import ImageGenerator
from diffusability.core.sampling.image_grid import save_rows
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.components import DatasetSpec
from diffusability.core.specs.guidance import needs_classes, no_classes_message
from diffusability.core.specs.stages import EncodeStage, TrainStage
from diffusability.core.specs.training import InTrainingEvaluationSpec, PreviewSpec
from diffusability.core.stages.evaluate import image_generator
from diffusability.core.stages.evaluation_data import fixed_order
from diffusability.core.stages.evaluation_results import scalar_values
from diffusability.core.stages.evaluation_rounds import evaluate
from diffusability.core.stages.evaluation_source import EvaluationSource
from diffusability.core.stages.inference_copy import InferenceCopy
from diffusability.core.stages.surroundings import Surroundings, build_sampler

_EVALUATION_BATCH = 64


@attrs.define(kw_only=True, eq=False, slots=False)
class Previews:
    """A hook of the training loop: draws on the first rank while the others wait, evaluates on all of them.

    Attributes:
        stage: the training stage.
        around: its run.
        shown: what is trained, with the weights that would be saved.
        dataset: what it is trained on.
        log: where metrics go.
        directory: folder of the stage.
    """

    stage: PlannedStage
    around: Surroundings
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
            if draws and spec.preview is not None and self.around.ranks.is_main:
                self._draw(objective, spec.preview, done)
            if evaluates and spec.evaluate is not None:
                self._evaluate(objective, spec.evaluate, done)

    @cached_property
    def _decoder(self) -> Autoencoder | None:
        return self.around.stage_autoencoder(self.stage) if self.stage.data.holds == "latents" else None

    @property
    def _decode(self) -> Callable[[Latents], Images] | None:
        return None if self._decoder is None else self._decoder.decode

    def _draw(self, objective: Objective, spec: PreviewSpec, done: int) -> None:
        context = self.around.context(self.stage)
        dataset = self.dataset
        if self.stage.data.holds == "images":
            dataset = self.stage.data.build(context, "validation")
        examples = [dataset[index] for index in fixed_order(dataset, spec.num_images)]
        data, labels = stacked(examples)
        randomness = BatchRandomness(seed=self.stage.seed, step=0, positions=range(len(examples)))
        batch = moved(Batch(data=data, labels=labels, randomness=randomness), self.around.ranks.device)
        sampler = build_sampler(spec.sampler, context) if self._decode is not None else None
        rows = objective.preview(batch, sampler, self._decode)
        if rows:
            path = self.directory / "samples" / f"step-{done:06d}.png"
            save_rows(rows, path)
            self.log.show(done, "samples", path)

    def _images(self) -> Dataset:
        """Real images: what an autoencoder does not train on, or what the latents of a denoiser were made of."""
        if self._decoder is None:
            return self.stage.data.build(self.around.context(self.stage), "validation")
        for used in self.stage.inputs.values():
            if isinstance(used.spec, EncodeStage):
                return used.data.build(self.around.context(used), "train")
        images: DatasetSpec | None = getattr(self.stage.data, "images", None)
        if images is None:
            raise SpecError(f"stage {self.stage.name!r} evaluates, and its latents name no 'images' to compare with")
        return images.build(self.around.context(self.stage), "train")

    def _evaluate(self, objective: Objective, spec: InTrainingEvaluationSpec, done: int) -> None:
        context = self.around.context(self.stage)
        split = "validation" if self._decoder is None else "train"
        source = EvaluationSource(
            dataset=self._images(),
            device=self.around.ranks.device,
            make_autoencoder=lambda: self._evaluated_autoencoder(objective),
            make_generator=lambda _: self._generator(objective, spec),
        )
        try:
            evaluation = evaluate(
                spec.evaluators,
                lambda evaluator: evaluator.build(context),
                source,
                self.around.ranks,
                batch_size=_EVALUATION_BATCH,
                on_fewer=lambda short, there: self.around.remark_fewer(self.stage, short, there, split),
            )
        except NotFiniteError as error:  # on all ranks; the weights may still recover, and the guard watches them
            self.around.console.print(
                f"step {done}: not evaluated: {error}", style="yellow", markup=False, highlight=False, soft_wrap=True
            )
            return
        if self.around.ranks.is_main:
            metrics = {f"eval/{metric}": value for metric, value in scalar_values(evaluation.results).items()}
            self.log.write({"step": done, **metrics})

    def _evaluated_autoencoder(self, objective: Objective) -> Autoencoder:
        autoencoder = self._decoder or objective.autoencoder
        assert autoencoder is not None
        return autoencoder

    def _generator(self, objective: Objective, spec: InTrainingEvaluationSpec) -> ImageGenerator:
        assert self._decode is not None
        sampler = build_sampler(spec.sampler, self.around.context(self.stage))
        return image_generator(objective.diffusion_model(), sampler, self._decode, self.stage, self.around)


def refuse_guidance_without_classes(spec: TrainStage, objective: Objective) -> None:
    """Refuses, before training, samplers that guide by classes of a model without. Raises SpecError."""
    guided = [(path, sampler) for path, sampler in samplers_of(spec) if needs_classes(sampler)]
    if guided and spec.objective.trains_on == "latents" and objective.diffusion_model().num_classes is None:
        path, sampler = guided[0]
        problem = no_classes_message(sampler.guidance_scale, "these data have no classes (num_classes is None)")
        raise SpecError(f"{'.'.join(map(str, path))}.{problem}")


def _is_due(done: int, every: int, last: int) -> bool:
    return done % every == 0 or done == last
