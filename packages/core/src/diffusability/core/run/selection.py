"""Which model of a run is meant. Free of torch."""

from pathlib import Path

import attrs

from diffusability.core.errors import SpecError, nearest
from diffusability.core.reading import reading
from diffusability.core.run.run_record import RECORD, read_record
from diffusability.core.specs.files.saved_format import CONFIG, read_saved_config


@attrs.frozen(kw_only=True)
class TrainedModel:
    """A model that a training stage of a run wrote.

    Attributes:
        run: the folder of the run.
        variant: a variant whose model it is.
        stage: name of the stage.
        directory: folder of the stage; the model is in ``model/``.
        format: what its ``config.json`` says that it is.
    """

    run: Path
    variant: str
    stage: str
    directory: Path
    format: str

    @property
    def model(self) -> Path:
        """The folder with configuration and weights."""
        return self.directory / "model"


def trained_models(run: Path) -> list[TrainedModel]:
    """The models of a run, in the order of its stages. One that variants share is there for each of them.

    Raises:
        SpecError: the folder is not a run.
        CheckpointError: the configuration of a model cannot be read.
    """
    record = read_record(run)
    stages_of: list[tuple[str, str, Path]] = []
    with reading("the record of a run", run / RECORD, SpecError):
        for variant, stages in record["variants"].items():
            done = {name: run / stage["directory"] for name, stage in stages.items() if stage["status"] == "done"}
            stages_of += [(variant, name, directory) for name, directory in done.items()]
    models = []
    for variant, name, directory in stages_of:
        if not (directory / "model" / CONFIG).is_file():
            continue
        what = str(read_saved_config(directory / "model").get("format"))
        models.append(TrainedModel(run=run, variant=variant, stage=name, directory=directory, format=what))
    return models


def select_model(
    run: Path, stage: str | None = None, variant: str | None = None, of_format: str | None = None
) -> TrainedModel:
    """The one model that is meant; with ``of_format``, among those of that format.

    Raises:
        SpecError: there is none, or several are left and neither stage nor variant tells which.
    """
    models = [model for model in trained_models(run) if of_format in (None, model.format)]
    if not models:
        what = "model" if of_format is None else f"model of format {of_format!r}"
        raise SpecError(f"{str(run)!r} has no trained {what} yet; run a training stage to its end first")
    for noun, wanted in (("variant", variant), ("stage", stage)):
        known = list(dict.fromkeys(getattr(model, noun) for model in models))
        if wanted is not None and wanted not in known:
            raise SpecError(
                f"there is no {noun} {wanted!r} with a trained model; {nearest(wanted, known)}{noun}s:"
                f" {', '.join(known)}"
            )
        models = [model for model in models if wanted in (None, getattr(model, noun))]
    if not models:
        raise SpecError(f"variant {variant!r} has no trained model of a stage {stage!r}")
    if len({model.directory for model in models}) > 1:
        listed = ", ".join(f"--stage {model.stage} --variant {model.variant}" for model in models)
        raise SpecError(f"{str(run)!r} has several trained models; say which: {listed}")
    return models[0]
