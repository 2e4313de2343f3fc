"""Builds the adversary of a training stage."""

import torch

from diffusability.core.contracts.dataset import Dataset
from diffusability.core.engine.adversarial.adversary import Adversary
from diffusability.core.engine.adversarial.discriminator_task import DiscriminatorTask
from diffusability.core.engine.adversarial.last_layer import LastLayer
from diffusability.core.engine.batches import BatchPlan, batches
from diffusability.core.engine.deepspeed_engine import initialize
from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.task import TrainTask
from diffusability.core.engine.update_gate import UpdateGate
from diffusability.core.errors import SpecError
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.specs.stages import TrainStage

#: Images of the first batch that an untrained discriminator is adapted to, at most.
_MOST_IMAGES = 32
#: The R1 penalty is differentiated twice, for which ZeRO 3 does not bring weights back: these stay whole on each rank.
_HIGHEST_ZERO_STAGE = 2


def build_adversary(stage: PlannedStage, task: TrainTask, dataset: Dataset, ranks: Ranks) -> Adversary | None:
    """The adversary of a stage whose task has no engine yet, or None where it asks for none.

    The discriminator starts from the stage's seed, and its normalisation from the first images of the first batch, on
    all ranks alike.

    Raises:
        SpecError: images are too small for the discriminator, or the weight is to adapt and the autoencoder cannot.
    """
    spec = stage.spec
    assert isinstance(spec, TrainStage)
    adversarial = spec.adversarial
    if adversarial is None:
        return None
    last_layer = None
    if adversarial.adaptive:
        if task.objective.autoencoder is None:
            raise SpecError("adversarial.adaptive needs an objective that trains an autoencoder; set it to false")
        last_layer = LastLayer(task.objective.autoencoder)
    size = min(spec.batch_size, _MOST_IMAGES)
    plan = BatchPlan(seed=stage.seed, batch_size=spec.batch_size, micro_batch_size=size, rank=0, num_ranks=1)
    first = next(iter(batches(dataset, plan, 0, 1))).batch.data
    torch.manual_seed(derived_seed(stage.seed, "discriminator"))
    discriminator = DiscriminatorTask(adversarial, tuple(first.shape[1:]), task.autocast_dtype)
    discriminator.discriminator.adapt(first)
    engine = initialize(
        discriminator,
        spec.model_copy(update={"optimizer": adversarial.optimizer, "gradient_clip": adversarial.gradient_clip}),
        stage.engine.model_copy(
            update={
                "precision": "fp32",
                "zero_stage": min(stage.engine.zero_stage, _HIGHEST_ZERO_STAGE),
                "offload": None,
                "activation_checkpointing": False,
                "compile": False,
            }
        ),
        ranks,
    )
    engine.module.train()
    gate = UpdateGate(device=ranks.device, max_skipped=spec.max_skipped)
    made = Adversary(engine=engine, spec=adversarial, ranks=ranks, last_layer=last_layer, gate=gate)
    task.observer = made.watch
    return made
