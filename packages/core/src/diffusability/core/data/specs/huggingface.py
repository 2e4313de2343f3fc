"""The spec of image sets of the Hugging Face library ``datasets``. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import attrs
from pydantic import Field

from diffusability.core.data.specs.image_view import ImageViewSpec
from diffusability.core.extras import require_package
from diffusability.core.specs.base import LocalPath, files_at
from diffusability.core.specs.files.contents import FileSet

if TYPE_CHECKING:
    pass


class HuggingFaceSpec(ImageViewSpec):
    """Images of a Hugging Face dataset: a hub id, a folder of files, or one that save_to_disk wrote."""

    kind: Literal["huggingface"] = "huggingface"
    builds: ClassVar[str] = "diffusability.core.data.huggingface:open_huggingface"
    path: Annotated[str, LocalPath()] = Field(description="hub id, or a folder")
    name: str | None = Field(None, description="configuration of the dataset")
    revision: str | None = Field(None, description="commit or tag on the hub")
    split: str = Field("train", description="the dataset's split to train on")
    validation_split: str | None = Field(None, description="the dataset's split for validation")
    validation_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="without validation_split: the share of examples kept out of training; 1: all of them",
    )
    image: str = Field("image", description="column with the images")
    label: str | None = Field(None, description="column with the classes, as numbers or as a ClassLabel")
    streaming: bool = Field(
        False, description="read shards as they are needed instead of preparing the whole set on disk first"
    )

    def check_inputs(self) -> None:
        require_package("datasets", f"data of kind {self.kind!r}", "huggingface")
        looks_local = self.path.startswith((".", "/", "~")) or self.path.count("/") > 1
        if looks_local and not Path(self.path).expanduser().is_dir():
            raise ValueError(
                f"path {self.path!r} does not exist; expected a folder, or a hub id such as 'user/dataset'"
            )

    def files_read(self) -> dict[str, FileSet]:
        folder = Path(self.path).expanduser()
        return {"path": attrs.evolve(files_at(folder), whole=False)} if folder.is_dir() else {}

    def unlabelled(self) -> str | None:
        return "label null" if self.label is None else None
