"""What training steps cost, by running the stage's own task, forward and backward, on fake tensors."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import noop_context_fn

from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.contracts.objective import Batch, StepOutput
from diffusability.core.cost.amounts import Flops, UnknownCost
from diffusability.core.cost.pass_meter import CUDAAutocast, PassMeter
from diffusability.core.cost.stand_ins import (
    NUM_CLASSES,
    ShapeData,
    ShapeRandomness,
    stand_in,
    weights_without_content,
)
from diffusability.core.cost.standalone import autoencoder_of, refuse_weights, standalone
from diffusability.core.engine.adversarial.discriminator_task import DiscriminatorTask
from diffusability.core.engine.adversarial.losses import generator_loss
from diffusability.core.engine.blocks import prepare_blocks
from diffusability.core.engine.task import TrainTask
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.planning.stage_context import context_of
from diffusability.core.specs.adversarial import AdversarialSpec
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.engine import ROUNDED_WEIGHTS
from diffusability.core.specs.stages import TrainStage
from diffusability.core.stages.task_of_stage import build_task

#: So many steps, spread over the training, are measured where steps differ.
_NUM_STEPS = 8


@attrs.frozen(kw_only=True)
class StepCost:
    """What a training step costs.

    Attributes:
        flops: of a step, over all ranks and micro batches.
        activation_bytes: largest amount that activations and temporaries take on a rank.
        num_trained: parameters that are trained, the discriminator's among them.
        frozen_bytes: weights that are not trained.
        notes: what is left out.
    """

    flops: Flops
    activation_bytes: int
    num_trained: int
    frozen_bytes: int
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class Trained:
    """What a stage trains, built of fake tensors.

    Attributes:
        task: the task, as the engine would run it.
        discriminator: trained beside it, if any.
        shape: of one example.
        weights: all weights that were made, those of fixed networks included.
        notes: what is left out.
    """

    task: TrainTask
    discriminator: DiscriminatorTask | None
    shape: tuple[int, ...]
    weights: list[nn.Parameter]
    notes: tuple[str, ...]


def context_without_content(stage: PlannedStage) -> BuildContext:
    """The build context of a stage whose networks are built without weights.

    Where only an autoencoder knows the shape of latents, one is built for it.
    """
    context = attrs.evolve(context_of(stage), untrained=True, num_classes=NUM_CLASSES)
    if context.latent_shape is not None or context.image_shape is None:
        return context
    try:
        spec = autoencoder_of(stage)
        refuse_weights(spec)
    except UnknownCost:
        return context
    with torch.random.fork_rng(devices=[]), weights_without_content():
        info = spec.build(attrs.evolve(context, latent_shape=None)).info
    return attrs.evolve(context, autoencoder=info, latent_shape=info.latent_shape(context.image_shape))


def trained_without_content(stage: PlannedStage, with_regularizers: bool = True, cuda: bool = True) -> Trained:
    """What a training stage trains; without the regularizers that cannot be built without weights, or without any.

    Args:
        stage: a training stage.
        with_regularizers: False for none.
        cuda: whether autocast casts as on CUDA, or as on CPUs, where activations are computed again.

    Raises:
        UnknownCost: it cannot be built.
    """
    spec = standalone(stage.spec, stage)
    assert isinstance(spec, TrainStage)
    refuse_weights(spec.objective)
    context = context_without_content(stage)
    shape = context.latent_shape if stage.data.holds == "latents" else context.image_shape
    if shape is None:
        raise UnknownCost(f"the shape of {stage.data.holds} is only known once data or models are opened")
    kept, notes = [], []
    for regularizer in spec.regularizers:
        try:
            refuse_weights(regularizer)
        except UnknownCost as reason:
            notes.append(f"without {regularizer.label!r}: {reason}")
        else:
            kept.append(regularizer)
    changed = attrs.evolve(
        stage, spec=spec.model_copy(update={"regularizers": tuple(kept) if with_regularizers else ()})
    )
    normalizer = LatentNormalizer.identity(shape[0]) if stage.data.holds == "latents" else None
    with torch.random.fork_rng(devices=[]), weights_without_content() as weights:
        task = build_task(changed, context, ShapeData(shape, normalizer))
        discriminator = None
        if spec.adversarial is not None:
            discriminator = DiscriminatorTask(spec.adversarial, shape, task.autocast_dtype)
    for parameter in weights:
        if parameter.requires_grad and parameter.is_leaf:
            parameter.register_post_accumulate_grad_hook(_drop_gradient)  # type: ignore[no-untyped-call]
    prepare_blocks(task, stage.engine.model_copy(update={"compile": False}), _as_on_cuda if cuda else noop_context_fn)
    if stage.engine.precision in ROUNDED_WEIGHTS:
        _round(task, torch.float16 if stage.engine.precision == "fp16" else torch.bfloat16)
    return Trained(task=task, discriminator=discriminator, shape=shape, weights=weights, notes=tuple(notes))


def step_cost(stage: PlannedStage, num_ranks: int, cuda: bool = True) -> StepCost:
    """The mean cost of a stage's training steps, and the largest memory of any.

    Args:
        stage: a training stage.
        num_ranks: ranks that share the batch.
        cuda: whether autocast casts as on CUDA, or as on CPUs.

    Raises:
        UnknownCost: the task cannot be built or run.
    """
    spec = stage.spec
    assert isinstance(spec, TrainStage)
    per_rank = spec.batch_size // num_ranks
    micro = min(stage.engine.micro_batch_size or per_rank, per_rank)
    attempts = (True, False) if spec.regularizers else (True,)
    for with_regularizers in attempts:
        try:
            trained = trained_without_content(stage, with_regularizers, cuda)
            passes = list(_passes(trained, spec, stage.seed, micro, cuda))
            break
        except UnknownCost:
            raise
        except Exception as error:  # noqa: BLE001 - models of third parties may raise anything on fake tensors
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    else:
        raise UnknownCost(f"the task does not run on fake tensors ({reason})")
    notes = trained.notes if with_regularizers else (f"without regularizers: {reason}",)
    total = Flops()
    for step_pass in passes:
        total = total + step_pass.flops
    modules = [trained.task, *([trained.discriminator] if trained.discriminator is not None else [])]
    trainable = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    all_bytes = sum(weight.numel() * 4 for weight in trained.weights)
    num_trained = sum(parameter.numel() for parameter in trainable)
    return StepCost(
        flops=total * (spec.batch_size / micro / len(passes)),
        activation_bytes=max(step_pass.peak for step_pass in passes),
        num_trained=num_trained,
        frozen_bytes=max(0, all_bytes - 4 * num_trained),
        notes=notes,
    )


def _passes(trained: Trained, spec: TrainStage, seed: int, micro: int, cuda: bool) -> Iterator[PassMeter]:
    """Forward and backward passes of one micro batch: of one step where all are alike, or else of several."""
    meter, decided = _one_pass(trained, spec, seed, micro, 0, cuda)
    yield meter
    scheduled = any(regularizer.schedule != type(regularizer.schedule)() for regularizer in spec.regularizers)
    if decided or scheduled or spec.adversarial is not None:
        for index in range(1, _NUM_STEPS):
            yield _one_pass(trained, spec, seed, micro, index * spec.steps // _NUM_STEPS, cuda)[0]


def _one_pass(
    trained: Trained, spec: TrainStage, seed: int, micro: int, step: int, cuda: bool
) -> tuple[PassMeter, bool]:
    task, discriminator = trained.task.train(), trained.discriminator
    randomness = ShapeRandomness(seed=seed, step=step, positions=range(micro))
    labels = torch.zeros(micro, dtype=torch.long)
    batch = Batch(data=stand_in((micro, *trained.shape)), labels=labels, randomness=randomness)
    seen: list[StepOutput] = []
    task.observer = lambda output, total: seen.append(output)
    with measuring(cuda) as meter:
        output = task(batch)
        judged = None
        adversarial = spec.adversarial
        if discriminator is not None and adversarial is not None and step >= adversarial.start_step:
            judged = _judged(discriminator, adversarial, seen[0], with_penalty=step % adversarial.r1_every == 0)
        seen.clear()
        torch.autograd.backward(output.loss)
        if judged is not None:
            torch.autograd.backward(judged)
    return meter, bool(randomness.decided)


def _judged(discriminator: DiscriminatorTask, spec: AdversarialSpec, output: StepOutput, with_penalty: bool) -> Tensor:
    """The discriminator's loss, after the generator's and its gradient, as ``Adversary.judge`` computes them."""
    assert output.images is not None
    assert output.reconstruction is not None
    images, reconstruction = output.images.detach().float(), output.reconstruction.detach().float()
    leaf = reconstruction.clone().requires_grad_()
    torch.autograd.grad(generator_loss(spec.loss, discriminator.logits(leaf)), leaf)
    loss: Tensor = discriminator(images, reconstruction, with_penalty and spec.r1_weight > 0).loss
    return loss


@contextmanager
def measuring(cuda: bool) -> Iterator[PassMeter]:
    """Measures what runs inside, with the types that autocast gives on CUDA or on CPUs."""
    with ExitStack() as stack:
        if cuda:
            stack.enter_context(CUDAAutocast())
        yield stack.enter_context(PassMeter())


def _as_on_cuda() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Torch lets no mode see the backward pass: activations that are computed again there need it for themselves."""
    return nullcontext(), CUDAAutocast()


def _drop_gradient(parameter: Tensor) -> None:
    """Gradients are counted with the state, for the whole of a step."""
    parameter.grad = None


def _round(task: nn.Module, dtype: torch.dtype) -> None:
    """Weights that are trained, in low precision, as DeepSpeed rounds them."""
    rounded: dict[int, nn.Parameter] = {}
    for module in task.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.requires_grad:
                if id(parameter) not in rounded:
                    rounded[id(parameter)] = nn.Parameter(stand_in(parameter.shape, dtype))
                    rounded[id(parameter)].register_post_accumulate_grad_hook(_drop_gradient)  # type: ignore[no-untyped-call]
                module._parameters[name] = rounded[id(parameter)]
