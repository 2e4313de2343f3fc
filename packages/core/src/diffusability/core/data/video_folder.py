"""Clips from a tree of video files."""

import torch

from diffusability.core.data.file_tree import label_of
from diffusability.core.data.folder_splits import FolderSplits
from diffusability.core.data.image_files import crop_box, cropped, uniform
from diffusability.core.data.image_view import refuse_by_size
from diffusability.core.data.video_files import read_frames, video_index
from diffusability.core.data.video_folder_spec import OTHER_VIDEO_SUFFIXES, VIDEO_SUFFIXES, VideoFolderSpec
from diffusability.core.dataset import Dataset, Example, UnreadableExample
from diffusability.core.specs.components import Split


def splits_of(spec: VideoFolderSpec) -> FolderSplits:
    """The video files of both splits."""
    return FolderSplits(
        path=spec.path,
        validation_path=spec.validation_path,
        validation_share=spec.validation_share,
        suffixes=VIDEO_SUFFIXES,
        known=OTHER_VIDEO_SUFFIXES,
        noun="videos",
    )


class VideoFolder(Dataset):
    """Clips of ``frames`` frames, ``stride`` apart; a file that is too short or damaged is reported by name."""

    def __init__(self, spec: VideoFolderSpec, split: Split) -> None:
        self.spec = spec
        self.split = split
        self.max_unreadable_share = spec.max_unreadable_share
        splits = splits_of(spec)
        self.root, self.paths = splits.files(split)
        if spec.labels == "folder":
            self.class_names = splits.class_names(self.root, self.paths)
            self.num_classes = len(self.class_names)
        self.notes = splits.notes(self.class_names)

    def __len__(self) -> int:
        return len(self.paths) * self.spec.clips_per_video

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        number, clip = divmod(index, self.spec.clips_per_video)
        path = self.root / self.paths[number]
        known = video_index(path)
        refuse_by_size(known.size, self.spec.min_size, self.spec.max_aspect, str(path))
        random = generator if self.split == "train" else None
        first = self._first(len(known.times), clip, random, str(path))
        images = read_frames(path, range(first, first + self._span(), self.spec.stride))
        height, width = self.spec.size()
        box = crop_box(images[0].size, width / height, random if self.spec.crop == "random" else None)
        data = torch.stack([cropped(image, box, (height, width)) for image in images], dim=1)
        if random is not None and self.spec.flip and uniform(random) < 0.5:
            data = data.flip(-1)
        label = None
        if self.class_names is not None:
            label = label_of(self.paths[number], self.class_names, self.root)
        return Example(data=data, label=label)

    def _span(self) -> int:
        """Frames of the file from the clip's first to its last."""
        return (self.spec.frames - 1) * self.spec.stride + 1

    def _first(self, count: int, clip: int, generator: torch.Generator | None, name: str) -> int:
        """The first frame of a clip: random, or the middle of one of equal parts of the file."""
        room = count - self._span()
        if room < 0:
            raise UnreadableExample(
                f"{name}: it has {count} frames, and {self.spec.frames} frames at a stride of {self.spec.stride} need"
                f" {self._span()}"
            )
        if generator is not None and self.spec.start == "random":
            return int(uniform(generator) * (room + 1))
        return round(room * (clip + 0.5) / self.spec.clips_per_video)
