"""What a stage needs from the run around it: the models and data of the stages it uses."""

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import torch
from rich.console import Console

from diffusability.core.contracts.autoencoder import Autoencoder, build_autoencoder
from diffusability.core.contracts.dataset import Dataset
from diffusability.core.contracts.sampler import Sampler
from diffusability.core.data.latents.latent_cache import read_index
from diffusability.core.data.latents.latent_origin import autoencoder_origin, refuse_other
from diffusability.core.engine.distributed import Ranks
from diffusability.core.engine.stopping import StopRequest
from diffusability.core.errors import SpecError
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.planning.plan import PlannedStage
from diffusability.core.planning.sample_counts import fewer_for
from diffusability.core.planning.stage_context import context_of, image_shape
from diffusability.core.run.folder_writer import RunFolder
from diffusability.core.run.remarks import keep_remark
from diffusability.core.shapes import Images, Latents
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec, EvaluatorSpec, SamplerSpec, Split
from diffusability.core.specs.stages import EncodeStage


@attrs.frozen(kw_only=True, eq=False)
class StageRuntime:
    """The run that a stage belongs to.

    Attributes:
        folder: where everything is written.
        ranks: this process among the others.
        console: where to speak; quiet on all ranks but the first.
        stop: whether the run was asked to stop.
        profile_steps: steps of each training stage to trace; 0 for none.
    """

    folder: RunFolder
    ranks: Ranks
    console: Console
    stop: StopRequest
    profile_steps: int = 0

    def context(self, stage: PlannedStage) -> BuildContext:
        """The build context of a stage, able to find the folders of the stages it uses and the run's cache."""

        def directory(name: str) -> Path:
            return self.folder.stage(stage.inputs[name])

        return attrs.evolve(context_of(stage), stage_directory=directory, cache_directory=self.folder.cache)

    def opened(self, stage: PlannedStage, split: Split) -> Dataset:
        """A split of a stage's data; says what its notes say. A signal ends even a long walk over folders.

        Raises:
            DataError: it cannot be opened.
            StoppedOnRequest: on all ranks, when a signal asked one of them for it.
        """
        dataset: Dataset | None = None
        with self.stop.at_once():
            dataset = stage.data.build(self.context(stage), split)
        self.stop.raise_together(self.ranks, "the data was being opened")
        assert dataset is not None
        for note in dataset.notes:
            self.console.print(f"  {stage.name}: {note}", style="yellow", markup=False, highlight=False, soft_wrap=True)
        return dataset

    def remark(self, stage: PlannedStage, sentence: str) -> None:
        """Says once what a reader of a stage's numbers must know, and keeps it for the report."""
        if self.ranks.is_main and keep_remark(self.folder.stage(stage), sentence):
            message = f"{stage.name}: {sentence}"
            self.console.print(message, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def remark_fewer(self, stage: PlannedStage, short: Sequence[EvaluatorSpec], there: int, split: str) -> None:
        """Says which evaluators see fewer images than their spec asks for."""
        for sentence in fewer_for(short, there, split):
            self.remark(stage, sentence)

    def autoencoder(self, spec: AutoencoderSpec, stage: PlannedStage) -> Autoencoder:
        """An autoencoder of a stage for inference. Weights that are drawn at random are the same in all its stages.

        They follow from the seed of the run and the spec; where the generator of torch stands does not matter.

        Raises:
            SpecError: it does not take the images of the stage, which was not known before it was built.
        """
        seed = derived_seed(stage.spec_seed, "random weights")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            autoencoder = self.frozen(build_autoencoder(spec, attrs.evolve(self.context(stage), seed=seed)))
        shape = image_shape(stage)
        if shape is not None:
            try:
                autoencoder.info.latent_shape(shape)
            except ValueError as error:
                raise SpecError(f"stage {stage.name!r}, autoencoder {spec.kind!r}: {error}") from None
        return autoencoder

    def decoder(self, stage: PlannedStage) -> Callable[[Latents], Images]:
        """Decodes the raw latents that a stage's data, or its denoiser's data, was encoded to."""
        return self.stage_autoencoder(stage).decode

    def stage_autoencoder(self, stage: PlannedStage) -> Autoencoder:
        """The autoencoder by which a stage's data, or its denoiser's data, was encoded, for inference."""
        return self._encoder_of(stage)

    def _encoder_of(self, stage: PlannedStage) -> Autoencoder:
        """Raises DataError when its weights are no longer those that the latents were made with."""
        elsewhere: AutoencoderSpec | None = getattr(stage.data, "autoencoder", None)
        if elsewhere is not None:  # was compared when the latents were opened
            return self.autoencoder(elsewhere, stage)
        for used in stage.inputs.values():
            if isinstance(used.spec, EncodeStage):
                autoencoder = self.autoencoder(used.spec.autoencoder, used)
                self._refuse_another(autoencoder, used.spec, self.folder.stage(used) / "latents")
                return autoencoder
        for used in stage.inputs.values():
            return self._encoder_of(used)
        raise SpecError(f"stage {stage.name!r} uses no encoded latents, so there is nothing that decodes its samples")

    def _refuse_another(self, autoencoder: Autoencoder, spec: EncodeStage, cache: Path) -> None:
        origin = autoencoder_origin(autoencoder, spec.autoencoder.kind)
        recorded = read_index(cache).provenance.get("autoencoder")
        refuse_other(f"latent cache {str(cache)!r}", recorded, origin, f"remove {str(cache.parent)!r} to encode again")

    def frozen(self, autoencoder: Autoencoder) -> Autoencoder:
        """An autoencoder for inference on this rank's device, in float32."""
        return autoencoder.to(self.ranks.device).eval().requires_grad_(False)


def build_sampler(spec: SamplerSpec | None, context: BuildContext) -> Sampler:
    """The sampler that a spec names; by default Euler."""
    sampler: Sampler = default_sampler(spec).build(context)
    return sampler


def default_sampler(spec: SamplerSpec | None) -> SamplerSpec:
    """The spec itself, or by default Euler's."""
    return spec or SamplerSpec.model_validate({"kind": "euler"})
