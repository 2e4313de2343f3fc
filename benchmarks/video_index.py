"""What indexing a long video costs, and reading a clip in its middle.

    python benchmarks/video_index.py [MINUTES]

Writes films of 640x360 at 25 frames/s: one of H.264 in MP4, whose packets prove where frames are, one of MPEG-2 in a
program stream, which is decoded once. Then it times the first and the second opening, and a clip.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from diffusability.core.data.video.video_files import read_frames
from diffusability.core.data.video.video_index_cache import video_index

FILMS = {"film.mp4": ("libx264", {"preset": "ultrafast"}, 250), "film.mpg": ("mpeg2video", {"b:v": "2M"}, 12)}


def write_film(path: Path, codec: str, options: dict[str, str], gap: int, frames: int) -> None:
    """A pattern of noise in blocks of 8 pixels that moves by one pixel a frame."""
    noise = np.random.default_rng(0).integers(0, 255, (45, 80, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 640, 360, "yuv420p", gap
        stream.codec_context.max_b_frames = 2
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, number % 640, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def main() -> None:
    frames = int(25 * 60 * float(sys.argv[1] if len(sys.argv) > 1 else 10))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for name, (codec, options, gap) in FILMS.items():
            path = Path(folder) / name
            write_film(path, codec, options, gap, frames)
            print(f"{name}: {frames} frames, {path.stat().st_size / 1e6:.0f} MB")
            for opening in ("first", "second"):
                wall, processor = time.perf_counter(), time.process_time()
                index = video_index(path)
                wall, processor = time.perf_counter() - wall, time.process_time() - processor
                print(f"  {opening} opening: {wall:.2f} s, {processor:.2f} s of processor time")
            assert len(index.times) == frames
            processor = time.process_time()
            read_frames(path, [frames // 2, frames // 2 + 2, frames // 2 + 4])
            print(f"  a clip in the middle: {time.process_time() - processor:.2f} s of processor time")
        kept = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.suffix not in (".mp4", ".mpg"))
        print(f"indices: {kept / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
