"""Clips from a tree of video files."""

from collections.abc import Sequence

import torch
from PIL import Image

from diffusability.core.contracts.dataset import Dataset, Example, UnreadableExample
from diffusability.core.data.folder_splits import FolderSplits
from diffusability.core.data.image_files import Box, crop_box, cropped, uniform
from diffusability.core.data.image_view import refuse_by_size
from diffusability.core.data.specs.video_folder import OTHER_VIDEO_SUFFIXES, VIDEO_SUFFIXES, VideoFolderSpec
from diffusability.core.data.video.clip_times import frames_by_time, room_by_number
from diffusability.core.data.video.video_files import VideoIndex, read_frames, video_index
from diffusability.core.specs.components import Split
from diffusability.core.specs.files.file_tree import label_of


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
    """Clips of ``frames`` frames, ``stride`` or 1 / ``fps`` seconds apart.

    A file that is too short or damaged is reported by name.
    """

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
        images = read_frames(path, self._frames(known, clip, random, str(path)))
        height, width = self.spec.size()
        aspect = width / height / float(known.pixel_aspect)  # in the file's own pixels, so that each is resampled once
        box = crop_box(images[0].size, aspect, random if self.spec.crop == "random" else None)
        data = torch.stack(
            [cropped(image, _scaled(box, images[0], image, str(path)), (height, width)) for image in images], dim=1
        )
        if random is not None and self.spec.flip and uniform(random) < 0.5:
            data = data.flip(-1)
        label = None
        if self.class_names is not None:
            label = label_of(self.paths[number], self.class_names, self.root)
        return Example(data=data, label=label)

    def _frames(self, known: VideoIndex, clip: int, generator: torch.Generator | None, name: str) -> Sequence[int]:
        """The frames of a clip that begins anywhere, or in the middle of one of equal parts of the file."""
        random = generator if self.spec.start == "random" else None
        share = (clip + 0.5) / self.spec.clips_per_video
        if self.spec.fps is not None:
            share = share if random is None else uniform(random)
            return frames_by_time(known, self.spec.frames, self.spec.fps, share, name)
        room = room_by_number(len(known.times), self.spec.frames, self.spec.stride, name)
        first = round(room * share) if random is None else int(uniform(random) * (room + 1))
        return range(first, first + (self.spec.frames - 1) * self.spec.stride + 1, self.spec.stride)


def _scaled(box: Box, first: Image.Image, image: Image.Image, name: str) -> Box:
    """The box of the clip's first frame in one of another size, as a stream may change its resolution.

    Raises:
        UnreadableExample: the frame has another shape, so that no box shows the same part.
    """
    if image.size == first.size:
        return box
    across, down = image.width / first.width, image.height / first.height
    if abs(across / down - 1) > 0.02:
        raise UnreadableExample(
            f"{name}: the shape of its frames changes from {first.width}x{first.height} to {image.width}x{image.height}"
        )
    return (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
