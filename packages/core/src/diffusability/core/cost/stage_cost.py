"""What the stages of a plan cost."""

import json
from collections.abc import Sequence
from typing import Any

import attrs

from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.parametrisation import Parametrisation
from diffusability.core.cost.amounts import Flops, StageCost, UnknownCost
from diffusability.core.cost.inference_cost import AutoencoderCost, SamplingCost, autoencoder_cost, sampling_cost
from diffusability.core.cost.stand_ins import NUM_CLASSES, weights_without_content
from diffusability.core.cost.standalone import autoencoder_of, refuse_weights, saved_config, standalone
from diffusability.core.cost.training_cost import (
    StepCost,
    context_without_content,
    step_cost,
    trained_without_content,
)
from diffusability.core.numerics.precision import autocast_dtype, resolve_precision
from diffusability.core.planning.check import estimate, needs_of
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.specs.base import Spec
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec, EvaluatorSpec, SamplerSpec
from diffusability.core.specs.evaluation_fields import CALLED_MODELS, ENCODED, GENERATED
from diffusability.core.specs.model_references import SavedDenoiserSpec, StageDenoiserSpec
from diffusability.core.specs.stages import EncodeStage, EvaluateStage, TrainStage

#: Fields of a training stage that change neither its operations nor its memory.
_FREE = ("optimizer", "learning_rate", "trackers", "checkpoint", "preview", "log_every", "gradient_clip", "evaluate")


@attrs.define(kw_only=True)
class CostEstimator:
    """Estimates stages; what equal stages have in common is measured once.

    Attributes:
        num_ranks: ranks that share each stage.
        cuda: whether autocast casts as on CUDA, or as on CPUs.
    """

    num_ranks: int = 1
    cuda: bool = True
    _measured: dict[str, Any] = attrs.field(factory=dict, init=False)

    def cost(self, stage: PlannedStage) -> StageCost:
        """What a stage costs. Never raises: what cannot be predicted is None, and the notes say why."""
        precision = resolve_precision(stage.engine.precision, self._device_type)
        stage = attrs.evolve(stage, engine=stage.engine.model_copy(update={"precision": precision}))
        try:
            match stage.spec:
                case TrainStage() as spec:
                    return self._training(stage, spec)
                case EncodeStage() as spec:
                    return self._encoding(stage, spec)
                case EvaluateStage() as spec:
                    return self._evaluation(stage, spec)
        except UnknownCost as reason:
            return StageCost(notes=(str(reason),))
        except Exception as error:  # noqa: BLE001 - an estimate must not fail a check
            return StageCost(notes=(f"not known: {type(error).__name__}: {' '.join(str(error).split())[:120]}",))
        return StageCost(notes=(f"stages of kind {stage.spec.kind!r} are not estimated",))

    @property
    def _device_type(self) -> str:
        return "cuda" if self.cuda else "cpu"

    def _training(self, stage: PlannedStage, spec: TrainStage) -> StageCost:
        step = self._step(stage)
        state = estimate(stage, self.num_ranks, step.num_trained).state_bytes_per_rank
        assert state is not None
        cost = StageCost(
            flops=step.flops * spec.steps,
            memory_bytes=state + step.frozen_bytes + step.activation_bytes,
            num_parameters=step.num_trained,
            notes=step.notes,
        )
        if spec.evaluate is None:
            return cost
        try:
            each = self._evaluated(stage, spec.evaluate.evaluators, spec.evaluate.sampler, 64, "fp32")
        except UnknownCost as reason:
            return attrs.evolve(cost, notes=(*cost.notes, f"without evaluations in training: {reason}"))
        assert cost.flops is not None
        assert each.flops is not None
        times = spec.steps // spec.evaluate.every
        return attrs.evolve(cost, flops=cost.flops + each.flops * times, notes=(*cost.notes, *each.notes))

    def _encoding(self, stage: PlannedStage, spec: EncodeStage) -> StageCost:
        each = self._autoencoder(stage, spec.autoencoder, spec.batch_size, spec.precision)
        per_image = each.encode * (2 if spec.flips else 1)
        count = spec.num_samples or stage.data.num_examples(spec.split)
        if count is None:
            return StageCost(
                flops_per_sample=per_image,
                memory_bytes=each.encode_bytes,
                notes=("the number of images is only known once data is opened",),
            )
        return StageCost(flops=per_image * count, memory_bytes=each.encode_bytes)

    def _evaluation(self, stage: PlannedStage, spec: EvaluateStage) -> StageCost:
        return self._evaluated(stage, spec.evaluators, spec.sampler, spec.batch_size, spec.precision)

    def _evaluated(
        self,
        stage: PlannedStage,
        evaluators: Sequence[EvaluatorSpec],
        sampler: SamplerSpec | None,
        batch_size: int,
        precision: str,
    ) -> StageCost:
        """Encoding, decoding and sampling for evaluators; not what they compute themselves."""
        needs = [(needs_of(evaluator, BuildContext()), evaluator) for evaluator in evaluators]

        def most(fields: frozenset[str]) -> int:
            return max((evaluator.num_samples for needed, evaluator in needs if needed & fields), default=0)

        encoded, decoded, generated = most(ENCODED), most(frozenset({"reconstruction"})), most(GENERATED)
        flops, memory = Flops(), 0
        notes: list[str] = []
        if encoded or generated:
            autoencoder = self._autoencoder(stage, autoencoder_of(stage), batch_size, precision)
            flops = autoencoder.encode * encoded + autoencoder.decode * (decoded + generated)
            memory = autoencoder.encode_bytes if encoded else 0
            memory = max(memory, autoencoder.decode_bytes if decoded or generated else 0)
        if generated:
            sample = self._sampling(stage, sampler, batch_size)
            flops, memory = flops + sample.flops * generated, max(memory, sample.memory_bytes)
            notes += sample.notes
        by_themselves = [evaluator.kind for needed, evaluator in needs if needed & CALLED_MODELS]
        if by_themselves:
            notes.append(f"without what {', '.join(by_themselves)} computes by itself")
        return StageCost(flops=flops, memory_bytes=memory, notes=tuple(notes))

    def _step(self, stage: PlannedStage) -> StepCost:
        spec = standalone(stage.spec, stage)
        assert isinstance(spec, TrainStage)
        shape = spec.model_dump(mode="json", exclude=set(_FREE))
        for regularizer in shape["regularizers"]:
            regularizer["weight"] = regularizer["weight"] > 0
        context = context_without_content(stage)
        key = [
            "step",
            stage.seed,
            shape,
            context.image_shape,
            context.latent_shape,
            stage.engine.model_dump(mode="json"),
        ]
        cost: StepCost = self._once(key, lambda: step_cost(stage, self.num_ranks, self.cuda))
        return cost

    def _autoencoder(
        self, stage: PlannedStage, spec: AutoencoderSpec, batch_size: int, precision: str
    ) -> AutoencoderCost:
        context = context_without_content(stage)
        alone, shape = standalone(spec, stage), context.image_shape
        if shape is None:
            raise UnknownCost("the shape of images is only known once data is opened")
        key = ["autoencoder", alone.model_dump(mode="json"), shape, batch_size, precision]
        dtype = autocast_dtype(precision, self._device_type)
        cost: AutoencoderCost = self._once(
            key, lambda: autoencoder_cost(alone, context, shape, batch_size, dtype, self.cuda)
        )
        return cost

    def _sampling(self, stage: PlannedStage, sampler: SamplerSpec | None, batch_size: int) -> SamplingCost:
        dtype = autocast_dtype(stage.engine.precision, self._device_type)
        model = _model_of(stage)
        shown = sampler.model_dump(mode="json") if sampler is not None else None
        key = ["sampling", model.spec.model_dump(mode="json"), model.latent_shape, shown, batch_size, str(dtype)]
        cost: SamplingCost = self._once(key, lambda: sampling_cost(model, sampler, batch_size, dtype, self.cuda))
        return cost

    def _once(self, key: object, measure: Any) -> Any:
        name = json.dumps(key, sort_keys=True, default=str)
        if name not in self._measured:
            try:
                self._measured[name] = measure()
            except UnknownCost as reason:
                self._measured[name] = reason
        if isinstance(self._measured[name], UnknownCost):
            raise self._measured[name]
        return self._measured[name]


def _model_of(stage: PlannedStage) -> DiffusionModel:
    """The denoiser that a stage trains or evaluates, of fake tensors."""
    named: Spec | None = getattr(stage.spec, "denoiser", None)
    if isinstance(named, StageDenoiserSpec):
        return _model_of(stage.inputs[named.stage])
    if isinstance(named, SavedDenoiserSpec):
        return _saved_model(named, stage)
    return trained_without_content(stage, with_regularizers=False).task.objective.diffusion_model()


def _saved_model(saved: SavedDenoiserSpec, stage: PlannedStage) -> DiffusionModel:
    config = saved_config(saved.path)
    spec = standalone(saved, stage)
    refuse_weights(spec)
    shape = tuple(config["latent_shape"])
    with weights_without_content():
        context = BuildContext(latent_shape=shape, num_classes=config["num_classes"], untrained=True)
        denoiser = spec.build(context)
    return DiffusionModel(
        denoiser=denoiser,
        normalizer=LatentNormalizer.identity(shape[0]),
        latent_shape=shape,
        num_classes=config["num_classes"] and NUM_CLASSES,
        spec=spec,
        parametrisation=Parametrisation.from_config(config.get("parametrisation", {"prediction": "velocity"})),
    )
