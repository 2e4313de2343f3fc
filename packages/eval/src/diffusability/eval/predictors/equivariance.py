"""Equivariance of an encoder."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.evaluator import EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.numerics.resampling import downsample
from diffusability.eval.predictors.standardization import ChannelScaling
from diffusability.eval.specs.predictors import EquivarianceSpec
from diffusability.eval.streaming.bootstrap import spread_of_mean
from diffusability.eval.streaming.sample_table import SampleTable

Transformed = tuple[Float[Tensor, "..."], Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]]


def transformations(factor: int) -> Mapping[str, Callable[[Tensor], Transformed]]:
    """For each transformation by name: images to transformed images, and what does the same to their latents.

    ``scale`` halves the sides (bilinear), ``rotation`` turns by 90 degrees, ``flip`` mirrors left and right, ``shift``
    moves by one latent pixel (``factor`` image pixels) to the right, around the border.
    """
    return {
        "scale": lambda images: (downsample(images, 2), lambda latents: downsample(latents, 2)),
        "rotation": lambda images: (images.rot90(1, (-2, -1)), lambda latents: latents.rot90(1, (-2, -1))),
        "flip": lambda images: (images.flip(-1), lambda latents: latents.flip(-1)),
        "shift": lambda images: (images.roll(factor, -1), lambda latents: latents.roll(1, -1)),
    }


def squared_error(encoded: Float[Tensor, "n c *s"], expected: Float[Tensor, "n c *s"]) -> Float[Tensor, "n c"]:
    """Mean squared difference of each sample and channel, in float64."""
    return (encoded.double() - expected.double()).square().flatten(2).mean(2)


class Equivariance(Evaluator):
    """``scale_equivariance_error`` and the same of rotation, flip and shift; 0 is equivariant, lower is better.

    The mean squared distance of ``Enc(T x)`` to ``T Enc(x)`` (posterior modes), of channels at unit variance over the
    set, as a denoiser sees them: the scale of no channel matters, and constant ones are left out. With the suffix
    ``_raw``, of raw latents over their mean variance. Scaling is left out where half the image is not divisible by the
    autoencoder's factor.
    """

    def __init__(self, spec: EquivarianceSpec) -> None:
        self.spec = spec
        self._table = SampleTable("equivariance")

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch."""
        assert batch.images is not None
        assert batch.latents is not None
        assert batch.autoencoder is not None
        factor = batch.autoencoder.info.spatial_factor
        flat = batch.latents.double().flatten(2)
        columns = {"mean": flat.mean(2), "square": flat.square().mean(2)}
        for name, transformation in transformations(factor).items():
            if name == "scale" and any(side % (2 * factor) for side in batch.images.shape[-2:]):
                continue
            transformed, expect = transformation(batch.images)
            encoded = batch.autoencoder.encode(transformed.contiguous()).mode()
            columns[name] = squared_error(encoded, expect(batch.latents))
        self._table.add(batch.indices, columns)

    def state(self) -> Any:
        return self._table.state()

    def merge(self, state: Any) -> None:
        self._table.merge(state)

    def compute(self) -> list[EvalResult]:
        columns = self._table.columns()
        mean, square = columns.pop("mean").mean(0), columns.pop("square").mean(0)
        scaling = ChannelScaling.from_moments(mean, square, "equivariance")
        variance, varying = scaling.std.square(), scaling.varying
        results = []
        for name, errors in columns.items():
            relative = (errors[:, varying] / variance[varying]).mean(1)
            raw = errors.mean(1) / variance.mean()
            for suffix, values, to in (
                ("", relative, "variance of each channel of the latents"),
                ("_raw", raw, "mean variance of the latents"),
            ):
                results.append(
                    EvalResult(
                        metric=f"{name}_equivariance_error{suffix}",
                        value=values.mean().item(),
                        higher_is_better=None if suffix else False,
                        num_samples=len(values),
                        spread=spread_of_mean(values),
                        spec={"relative_to": to, "scaling": "of all images", "spread_over": "200 bootstrap samples"},
                        note=scaling.note,
                        values=SampleValues.from_samples(self._table.indices, values.tolist()),
                    )
                )
        return results
