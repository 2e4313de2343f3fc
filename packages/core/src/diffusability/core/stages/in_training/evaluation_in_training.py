"""Metrics while a stage trains: of the weights that would be saved."""

import attrs

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.dataset import Dataset
from diffusability.core.contracts.objective import Objective
from diffusability.core.engine.metrics_log import MetricsLog
from diffusability.core.errors import NotFiniteError, SpecError
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.sampling.generation import ImageGenerator
from diffusability.core.specs.components import DatasetSpec
from diffusability.core.specs.stages import EncodeStage
from diffusability.core.specs.training import InTrainingEvaluationSpec
from diffusability.core.stages.evaluate import image_generator
from diffusability.core.stages.evaluation_results import scalar_values
from diffusability.core.stages.evaluation_rounds import evaluate
from diffusability.core.stages.evaluation_source import EvaluationSource
from diffusability.core.stages.runtime import StageRuntime, build_sampler

_BATCH_SIZE = 64


@attrs.define(kw_only=True, eq=False, slots=False)
class InTrainingEvaluation:
    """Evaluates what is trained, on all ranks.

    Attributes:
        stage: the training stage.
        runtime: its run.
        log: where metrics go.
        decoder: decodes the latents that a denoiser is trained on; None where images are trained on.
    """

    stage: PlannedStage
    runtime: StageRuntime
    log: MetricsLog
    decoder: Autoencoder | None

    def write(self, objective: Objective, spec: InTrainingEvaluationSpec, done: int) -> None:
        """Adds a line of metrics to the log, as of a step; says so instead where they are not finite."""
        context = self.runtime.context(self.stage)
        split = "validation" if self.decoder is None else "train"
        source = EvaluationSource(
            dataset=self._images(),
            device=self.runtime.ranks.device,
            make_autoencoder=lambda: self._autoencoder(objective),
            make_generator=lambda autoencoder: self._generator(objective, spec, autoencoder),
        )
        try:
            evaluation = evaluate(
                spec.evaluators,
                lambda evaluator: evaluator.build(context),
                source,
                self.runtime.ranks,
                batch_size=_BATCH_SIZE,
                on_fewer=lambda short, there: self.runtime.remark_fewer(self.stage, short, there, split),
            )
        except NotFiniteError as error:  # on all ranks; the weights may still recover, and the guard watches them
            self.runtime.console.print(
                f"step {done}: not evaluated: {error}", style="yellow", markup=False, highlight=False, soft_wrap=True
            )
            return
        if self.runtime.ranks.is_main:
            metrics = {f"eval/{metric}": value for metric, value in scalar_values(evaluation.results).items()}
            self.log.write({"step": done, **metrics})

    def _images(self) -> Dataset:
        """Real images: what an autoencoder does not train on, or what the latents of a denoiser were made of."""
        if self.decoder is None:
            own: Dataset = self.stage.data.build(self.runtime.context(self.stage), "validation")
            return own
        for used in self.stage.inputs.values():
            if isinstance(used.spec, EncodeStage):
                encoded: Dataset = used.data.build(self.runtime.context(used), "train")
                return encoded
        images: DatasetSpec | None = getattr(self.stage.data, "images", None)
        if images is None:
            raise SpecError(f"stage {self.stage.name!r} evaluates, and its latents name no 'images' to compare with")
        named: Dataset = images.build(self.runtime.context(self.stage), "train")
        return named

    def _autoencoder(self, objective: Objective) -> Autoencoder:
        autoencoder = self.decoder or objective.autoencoder
        assert autoencoder is not None
        return autoencoder

    def _generator(
        self, objective: Objective, spec: InTrainingEvaluationSpec, autoencoder: Autoencoder
    ) -> ImageGenerator:
        sampler = build_sampler(spec.sampler, self.runtime.context(self.stage))
        return image_generator(objective.diffusion_model(), sampler, autoencoder.decode, self.stage, self.runtime)
