"""Samples as files: PNG for images, mp4 for clips, and one sheet of all."""

from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from diffusability.core.extras import require_package
from diffusability.core.sampling.image_grid import to_pil

#: Constant rate factor of H.264: visually lossless.
_CRF = "17"


def as_rgb(sample: Float[Tensor, "c *t h w"]) -> Float[Tensor, "3 *t h w"]:
    """Colour as it is; of anything else, the first channel in grey."""
    return sample if len(sample) == 3 else sample[:1].expand(3, *sample.shape[1:])


def save_sample(sample: Float[Tensor, "c *t h w"], stem: Path, frames_per_s: int) -> Path:
    """Writes one sample in [-1, 1] to ``stem.png``, or a clip to ``stem.mp4``; returns the file's path."""
    if sample.ndim == 3:
        path = stem.with_suffix(".png")
        to_pil(as_rgb(sample)).save(path)
        return path
    path = stem.with_suffix(".mp4")
    save_clip(as_rgb(sample), path, frames_per_s)
    return path


def save_clip(clip: Float[Tensor, "3 t h w"], path: Path, frames_per_s: int) -> None:
    """Writes a clip in [-1, 1] as H.264 in mp4; odd sides are filled up by their last row or column.

    Raises:
        MissingPackageError: PyAV is not installed.
    """
    require_package("av", "writing mp4", "video")
    import av

    frames = ((clip.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().transpose(0, 1)
    height, width = frames.shape[-2:]
    frames = F.pad(frames, (0, width % 2, 0, height % 2), mode="replicate").to(torch.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(frames_per_s), options={"crf": _CRF})
        stream.height, stream.width = frames.shape[-2:]
        stream.pix_fmt = "yuv420p"
        for frame in frames.permute(0, 2, 3, 1).contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
