"""Specs of the trackers of the core. Free of torch, and of the libraries that they name."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diffusability.core.extras import require_package
from diffusability.core.specs.components import TrackerSpec

if TYPE_CHECKING:
    pass


class TensorBoardSpec(TrackerSpec):
    """Curves and image grids as event files in ``tensorboard/`` below the stage's folder."""

    kind: Literal["tensorboard"] = "tensorboard"
    builds: ClassVar[str] = "diffusability.core.trackers.tensorboard:TensorBoardTracker"

    def check_inputs(self) -> None:
        require_package("tensorboard", "tracker 'tensorboard'", "tensorboard")


class WandbSpec(TrackerSpec):
    """Curves and image grids in Weights & Biases; an interrupted stage continues its own run there."""

    kind: Literal["wandb"] = "wandb"
    builds: ClassVar[str] = "diffusability.core.trackers.wandb:WandbTracker"
    project: str = Field("diffusability", min_length=1)
    entity: str | None = Field(None, description="user or team; default: the one of the login")
    mode: Literal["online", "offline", "disabled"] = "online"
    name: str | None = Field(None, description="default: the stage's name")
    tags: tuple[str, ...] = ()

    def check_inputs(self) -> None:
        require_package("wandb", "tracker 'wandb'", "wandb")


class MLflowSpec(TrackerSpec):
    """Curves, parameters and image grids in MLflow; an interrupted stage continues its own run there."""

    kind: Literal["mlflow"] = "mlflow"
    builds: ClassVar[str] = "diffusability.core.trackers.mlflow:MLflowTracker"
    tracking_uri: str | None = Field(
        None, min_length=1, description="server or database, such as sqlite:///mlflow.db; default: MLFLOW_TRACKING_URI"
    )
    experiment: str = Field("diffusability", min_length=1)
    name: str | None = Field(None, description="default: the stage's name")
    tags: dict[str, str] = Field(default_factory=dict)

    def check_inputs(self) -> None:
        require_package("mlflow", "tracker 'mlflow'", "mlflow")


class TrackioSpec(TrackerSpec):
    """Curves and image grids in Trackio; an interrupted stage continues its own run there."""

    kind: Literal["trackio"] = "trackio"
    builds: ClassVar[str] = "diffusability.core.trackers.trackio:TrackioTracker"
    project: str = Field("diffusability", min_length=1)
    name: str | None = Field(None, description="first part of the run's name; default: the stage's name")
    space_id: str | None = Field(None, description="a Space to log to; default: a database on this machine")

    def check_inputs(self) -> None:
        require_package("trackio", "tracker 'trackio'", "trackio")
