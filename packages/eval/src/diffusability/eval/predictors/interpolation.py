"""Smoothness of decoding between latents."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.errors import DataError
from diffusability.eval.specs.predictors import InterpolationSpec
from diffusability.eval.streaming.bootstrap import spread_of_mean
from diffusability.eval.streaming.sample_table import SampleTable


def path_directness(decoded: Float[Tensor, "k n *s"]) -> Float[Tensor, " n"]:
    """Distance of the ends over the length of the path, of each of ``n`` paths of ``k`` images; in (0, 1], 1 is direct.

    Distances are root mean squares over pixels. A path length as in Karras et al. 2019 (StyleGAN, section 4.1), here
    relative to the ends and in pixels, so that it needs no pretrained network. A linear decoder gives exactly 1; a
    decoder that leaves the image manifold between two latents gives less. 1 for a path whose images are all equal.
    """
    flat = decoded.double().flatten(2)
    steps = (flat[1:] - flat[:-1]).square().mean(2).sqrt().sum(0)
    ends = (flat[-1] - flat[0]).square().mean(1).sqrt()
    return torch.where(steps > 0, ends / steps.clamp_min(1e-300), torch.ones_like(steps))


class Interpolation(Evaluator):
    """``interpolation_smoothness``: how direct the decoded way between two images is, in (0, 1]; more is better.

    The latents of two images of the set are joined by a straight line, which is decoded in ``num_steps`` parts; the
    distance of the two reconstructions over the length of the way (see ``predictors.interpolation``), a mean over
    pairs: the first image with the second, the third with the fourth, and so on.
    """

    def __init__(self, spec: InterpolationSpec) -> None:
        self.spec = spec
        self._table = SampleTable("interpolation")
        self._autoencoder: Autoencoder | None = None

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch."""
        assert batch.latents is not None
        assert batch.reconstruction is not None
        self._autoencoder = batch.autoencoder
        self._table.add(
            batch.indices, {"latents": batch.latents.float(), "reconstruction": batch.reconstruction.float()}
        )

    def state(self) -> Any:
        return self._table.state()

    def merge(self, state: Any) -> None:
        self._table.merge(state)

    @torch.no_grad()
    def compute(self) -> list[EvalResult]:
        columns = self._table.columns()
        latents, reconstruction = columns["latents"], columns["reconstruction"]
        num_pairs = len(latents) // 2
        if num_pairs == 0 or self._autoencoder is None:
            raise DataError(f"interpolation needs at least two images, got {len(latents)}")
        device = next((weight.device for weight in self._autoencoder.parameters()), torch.device("cpu"))
        directness = []
        for pair in range(num_pairs):
            first, second = latents[2 * pair], latents[2 * pair + 1]
            path = [reconstruction[2 * pair]]
            for step in range(1, self.spec.num_steps):
                share = step / self.spec.num_steps
                between = torch.lerp(first, second, share)[None].to(device)
                path.append(self._autoencoder.decode(between)[0].float().clamp(-1, 1).cpu())
            path.append(reconstruction[2 * pair + 1])
            directness.append(path_directness(torch.stack(path)[:, None]))
        values = torch.cat(directness)
        return [
            EvalResult(
                metric="interpolation_smoothness",
                value=values.mean().item(),
                higher_is_better=True,
                num_samples=2 * num_pairs,
                spread=spread_of_mean(values),
                spec={"num_steps": self.spec.num_steps, "spread_over": "200 bootstrap samples of pairs"},
                values=SampleValues.from_samples(self._table.indices[: 2 * num_pairs : 2], values.tolist()),
            )
        ]
