"""Digests of the images that a stage evaluated: whether two stages saw the same ones."""

from collections.abc import Mapping
from hashlib import blake2b

import torch

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator


class ImageDigests(Evaluator):
    """Keeps eight bytes for each real image that it sees, of its values rounded to bytes; no metric.

    Attributes:
        digests: by the image's place in the evaluated set.
    """

    needs = frozenset()

    def __init__(self) -> None:
        self.digests: dict[int, int] = {}

    def update(self, batch: EvaluationBatch) -> None:
        if batch.images is None:
            return
        rounded = ((batch.images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        for index, image in zip(batch.indices, rounded, strict=True):
            content = str(image.shape).encode() + image.tobytes()
            self.digests[index] = int.from_bytes(blake2b(content, digest_size=8).digest(), "little")

    def compute(self) -> list[EvalResult]:
        return []

    def state(self) -> Mapping[int, int]:
        return self.digests

    def merge(self, state: Mapping[int, int]) -> None:
        self.digests |= state
