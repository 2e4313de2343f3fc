"""The grid of real images that stands beside samples."""

from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

from diffusability.core.contracts.dataset import Dataset, Example, UnreadableExample
from diffusability.core.sampling.image_grid import GAP
from diffusability.core.stages.evaluation_data import fixed_order
from diffusability.core.stages.sample_grid import draw_real_images

SIDE = 8


def color(index: int) -> int:
    return 20 * index + 10


@attrs.define
class Plain(Dataset):
    """Images of one colour, the brighter the later; some cannot be read."""

    unreadable: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return 12

    def load(self, index: int, generator: torch.Generator | None) -> Example:
        if index in self.unreadable:
            raise UnreadableExample(f"image {index} is damaged")
        return Example(data=torch.full((3, SIDE, SIDE), color(index) / 127.5 - 1), label=None)


def colors(path: Path, count: int) -> list[int]:
    """The colour of each tile, row by row."""
    pixels = np.asarray(Image.open(path))
    step, columns = SIDE + GAP, round(count**0.5)
    places = [divmod(place, columns) for place in range(count)]
    return [int(pixels[GAP + row * step + 1, GAP + column * step + 1, 0]) for row, column in places]


def test_the_grid_holds_the_images_that_metrics_see_first(tmp_path: Path) -> None:
    """In the fixed order of evaluation, as many as samples are shown."""
    (path,) = draw_real_images(Plain(), 4, tmp_path)
    assert path == tmp_path / "real-images.png"
    assert colors(path, 4) == [color(index) for index in fixed_order(Plain(), 4)]


@pytest.mark.parametrize("count", [12, 500])
def test_damaged_images_are_left_out(tmp_path: Path, count: int) -> None:
    """Also where more are asked for than there are; without one that can be read there is no grid."""
    order = fixed_order(Plain(), 12)
    damaged = Plain(unreadable=frozenset(order[:3]))
    (path,) = draw_real_images(damaged, count, tmp_path)
    assert colors(path, 9) == [color(index) for index in order[3:]]
    assert draw_real_images(Plain(unreadable=frozenset(range(12))), 4, tmp_path) == []
