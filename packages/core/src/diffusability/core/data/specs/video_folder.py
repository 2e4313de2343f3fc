"""The spec of clips from video files. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from diffusability.core.errors import DataError
from diffusability.core.extras import require_package
from diffusability.core.specs.base import Incidental
from diffusability.core.specs.components import DatasetSpec
from diffusability.core.specs.files.contents import FileSet
from diffusability.core.specs.files.file_tree import folder_files, holds_any

if TYPE_CHECKING:
    pass

#: File names that are taken for videos.
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm"}
    | {".wmv"}
)

#: Further suffixes of videos; files that end in them are not read but counted.
OTHER_VIDEO_SUFFIXES = frozenset(
    {".3gp", ".asf", ".divx", ".f4v", ".flv", ".m2ts", ".m2v", ".mpe", ".mts", ".mxf", ".ogv", ".vob", ".wmv"}
)


class VideoFolderSpec(DatasetSpec):
    """Clips of video files in a tree of folders, with class folders if wanted."""

    kind: Literal["video-folder"] = "video-folder"
    builds: ClassVar[str] = "diffusability.core.data.video.video_folder:VideoFolder"
    path: Path = Field(description="folder with videos, at any depth")
    frames: PositiveInt = Field(17, description="frames of a clip")
    stride: PositiveInt = Field(1, description="take every so many frames")
    fps: Annotated[PositiveFloat, Field(allow_inf_nan=False)] | None = Field(
        None,
        description="instead of stride: frames of a clip per second, by the times at which the file shows its own",
    )
    resolution: PositiveInt | tuple[PositiveInt, PositiveInt] = Field(
        256, description="pixels of the square, or [height, width]; the largest such part of the frame is resized to it"
    )
    crop: Literal["random", "center"] = Field("center", description="of training clips")
    start: Literal["random", "even"] = Field(
        "random", description="where training clips begin: anywhere, or evenly spread as in validation"
    )
    clips_per_video: PositiveInt = Field(1, description="examples of each file; without randomness, evenly spread")
    flip: bool = Field(True, description="mirror half of the training clips")
    labels: Literal["none", "folder"] = Field("none", description="folder: the first folder below `path` is the class")
    validation_path: Path | None = Field(None, description="a folder of its own for validation")
    validation_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="without validation_path: the share of files kept out of training, by name; 1: all are validation",
    )
    min_size: PositiveInt | None = Field(None, description="leave out videos whose shorter side has fewer pixels")
    max_aspect: PositiveFloat | None = Field(
        None, ge=1, description="leave out videos whose longer side is more than this many times the shorter one"
    )
    max_unreadable_share: float = Field(
        0.1, ge=0, le=1, description="training stops when a larger share of the examples cannot be read"
    )
    num_workers: Annotated[int, Incidental()] = Field(2, ge=0, description="loading processes per rank")

    @model_validator(mode="after")
    def _one_way_of_counting(self) -> "VideoFolderSpec":
        if self.fps is not None and self.stride != 1:
            raise ValueError(
                f"stride {self.stride} counts the frames of a file, and fps {self.fps:g} samples it by time; give one"
            )
        return self

    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.resolution, self.resolution) if isinstance(self.resolution, int) else self.resolution

    def image_shape(self) -> tuple[int, ...]:
        return (3, self.frames, *self.size())

    def check_inputs(self) -> None:
        require_package("av", f"data of kind {self.kind!r}", "video")
        for name, folder in (("path", self.path), ("validation_path", self.validation_path)):
            if folder is None:
                continue
            if not folder.is_dir():
                what = "is a file" if folder.is_file() else "does not exist"
                raise ValueError(f"{name} {str(folder)!r} {what}; expected a folder with videos")
            try:
                holds_videos = holds_any(folder, VIDEO_SUFFIXES)
            except DataError as error:
                raise ValueError(f"{name}: {error}") from None
            if not holds_videos:
                suffixes = ", ".join(sorted(VIDEO_SUFFIXES))
                raise ValueError(f"{name} {str(folder)!r} holds no videos; expected files ending in {suffixes}")

    def files_read(self) -> dict[str, FileSet]:
        folders = {"path": self.path, "validation_path": self.validation_path}
        return folder_files(folders, VIDEO_SUFFIXES, self.labels == "folder")

    def unlabelled(self) -> str | None:
        return "labels 'none'" if self.labels == "none" else None
