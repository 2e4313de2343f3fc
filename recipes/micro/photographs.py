"""Cuts the tiles that the micro recipes are trained on out of photographs that Debian packages install.

    apt-get install lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds plasma-workspace-wallpapers
    python recipes/micro/photographs.py photographs

writes ``photographs/train`` and ``photographs/validation``: PNG tiles of 64 pixels (``--tile``) of each photograph at
three sizes. The two sets share no photograph. Tiles without structure, such as plain sky, are left out.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

PACKAGES = ("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "mate-backgrounds", "plasma-workspace-wallpapers")
#: Photographs among the files of those packages (the others are drawings and gradients): part of the path.
TRAIN = (
    "backgrounds/Bridge_by", "backgrounds/Dragonfly_by", "backgrounds/Infinite-Sea_by", "backgrounds/Kleiber_by",
    "backgrounds/Picture_0B_by", "backgrounds/Wine_by", "backgrounds/aitzgorri_by", "backgrounds/free_by",
    "backgrounds/greentock_by", "backgrounds/life_by", "backgrounds/seeding_by", "backgrounds/sunset_by",
    "nature/Aqua", "nature/Blinds", "nature/Dune", "nature/FreshFlower", "nature/Garden", "nature/GreenMeadow",
    "nature/LadyBird", "nature/RainDrops", "nature/Wood", "nature/YellowFlower",
    "BytheWater", "ColdRipple", "ColorfulCups", "EveningGlow", "FallenLeaf", "OneStandsOut",
)  # fmt: skip
VALIDATION = (
    "backgrounds/Picture_1A_by", "backgrounds/friends_by", "backgrounds/picosdeeuropa_by",
    "nature/Storm", "nature/TwoWings", "Grey", "Kite", "Path",
)  # fmt: skip
#: Shorter sides to which a photograph is reduced before it is cut, in tiles.
SIDES = (4, 8, 12)
#: Standard deviation of the luminance, in grey levels of 255, below which a tile counts as plain.
LEAST_CONTRAST = 8.0


def installed_images(packages: tuple[str, ...]) -> list[Path]:
    """Image files of Debian packages. Exits with the command that installs what is missing."""
    images: list[Path] = []
    for package in packages:
        listing = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=False)
        if listing.returncode:
            sys.exit(f"the package {package} is not installed: apt-get install {' '.join(packages)}")
        images += [Path(line) for line in listing.stdout.splitlines() if line.lower().endswith((".jpg", ".png"))]
    return sorted(path for path in images if path.is_file() and not path.is_symlink())


def largest_named(images: list[Path], name: str) -> Path:
    """The largest file of a photograph that comes in several sizes. Exits when there is none."""
    candidates = [path for path in images if f"/{name}" in str(path) and "images_dark" not in str(path)]
    if not candidates:
        sys.exit(f"no photograph {name!r} in {', '.join(PACKAGES)}: the packages have changed")
    return max(candidates, key=lambda path: path.stat().st_size)


def tiles(photograph: Image.Image, size: int) -> Iterator[Image.Image]:
    """Non-overlapping squares of a photograph at several sizes, without the plain ones."""
    for count in SIDES:
        scale = count * size / min(photograph.size)
        if scale > 1:
            continue
        reduced = photograph.resize(
            (round(photograph.width * scale), round(photograph.height * scale)), Image.Resampling.LANCZOS
        )
        for top in range(0, reduced.height - size + 1, size):
            for left in range(0, reduced.width - size + 1, size):
                tile = reduced.crop((left, top, left + size, top + size))
                if np.asarray(tile.convert("L"), dtype=np.float32).std() >= LEAST_CONTRAST:
                    yield tile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder to write; its train/ and validation/ are made again")
    parser.add_argument("--tile", type=int, default=64, help="height and width of a tile in pixels")
    arguments = parser.parse_args()
    images = installed_images(PACKAGES)
    for split, names in (("train", TRAIN), ("validation", VALIDATION)):
        folder: Path = arguments.output / split
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        total = 0
        for name in names:
            with Image.open(largest_named(images, name)) as photograph:
                for place, tile in enumerate(tiles(photograph.convert("RGB"), arguments.tile)):
                    tile.save(folder / f"{name.rpartition('/')[2].removesuffix('_by')}-{place:04d}.png")
                    total += 1
        print(f"{folder}: {total:,} tiles of {len(names)} photographs")


if __name__ == "__main__":
    main()
