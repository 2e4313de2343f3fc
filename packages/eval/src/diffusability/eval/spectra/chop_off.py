"""What decoding keeps of an image when the latents lose their high frequencies."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from diffusability.core.contracts.autoencoder import Autoencoder
from diffusability.core.contracts.evaluator import Curve, EvalResult, EvaluationBatch, Evaluator
from diffusability.core.contracts.sample_values import SampleValues
from diffusability.core.errors import DataError
from diffusability.core.numerics.axes import as_frames
from diffusability.core.numerics.dct import chop, chop_mask
from diffusability.core.shapes import Images
from diffusability.eval.frames import mean_of_frames
from diffusability.eval.reconstruction.psnr import psnr_per_image
from diffusability.eval.specs.spectra import ChopOffSpec
from diffusability.eval.spectra.block_spectrum import crop_to_blocks, fitting_block_size
from diffusability.eval.spectra.chopped_pictures import ChoppedPictures
from diffusability.eval.streaming.sample_mean import SampleMean


def kept_share(share: float, block_size: int, shape: str) -> float:
    """The share of a block's coefficients that is really kept when ``share`` is asked for, in [0, 1]."""
    return chop_mask(block_size, 1 - share, shape).double().mean().item()


def distinct_shares(shares: Sequence[float], block_size: int, shape: str) -> list[float]:
    """The shares, from the largest down, that keep a coefficient and not the same ones as a larger share."""
    kept: dict[float, float] = {}
    for share in sorted(shares, reverse=True):
        kept.setdefault(kept_share(share, block_size, shape), share)
    return [share for coefficients, share in kept.items() if coefficients > 0]


def area_under(shares: Sequence[float], values: Sequence[float]) -> float:
    """Area under ``values`` over shares 0 to 1 by the trapezoid rule: their mean over the share kept, in their unit.

    Below the smallest share, where no measurement can be made, the curve is extended as a constant. The largest share
    must be 1.
    """
    points = sorted(zip(shares, values, strict=True))
    assert points[-1][0] == 1.0, "the curve ends where all is kept"
    smallest, value = points[0]
    return smallest * value + sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in pairwise(points))


@attrs.frozen(kw_only=True)
class ChopPlan:
    """What is chopped, in blocks of which side, settled by the first batch.

    Attributes:
        shares: shares to keep, from 1 down.
        latent_block: side of the latents' blocks.
        image_block: side of the images' blocks, which cover the same pixels.
    """

    shares: tuple[float, ...]
    latent_block: int
    image_block: int


@attrs.frozen(kw_only=True, eq=False)
class ChopState:
    """What a ChopOff has seen: mean PSNR at each share, of decoded and of chopped images, and pictures by index."""

    plan: ChopPlan | None
    latent_psnr: list[SampleMean]
    rgb_psnr: list[SampleMean]
    pictures: Mapping[int, ChoppedPictures]
    num_samples: int


class ChopOff(Evaluator):
    """Quality against the share of DCT coefficients that is kept, for latents and, by the same rule, for RGB itself.

    At each share the latents are chopped, decoded and clamped to [-1, 1]; the PSNR to the image is averaged over
    images. RGB is chopped in blocks that cover the same pixels (``block_size * spatial_factor``). An image's PSNR is
    capped at ``max_psnr``: RGB of which everything is kept would be infinite.

    Curves ``chop_off_curve``, ``rgb_chop_off_curve`` (dB against the share really kept) and the areas under them,
    ``chop_off_area``, ``rgb_chop_off_area``, in dB: the mean PSNR over shares from 0 to 1, where the curve below its
    smallest share is taken as constant.

    Latents and images are cropped to whole blocks; latents too small for a block take the largest power of two that
    fits, at least 4. Shares that keep no coefficient of a block, or the same as a larger share, are left out. Each
    frame of a clip is an image.
    """

    def __init__(self, spec: ChopOffSpec) -> None:
        self.spec = spec
        self._plan: ChopPlan | None = None
        self._latent_psnr: list[SampleMean] = []
        self._rgb_psnr: list[SampleMean] = []
        self._pictures: dict[int, ChoppedPictures] = {}
        self._num_samples = 0

    def update(self, batch: EvaluationBatch) -> None:
        """Adds a batch.

        Raises:
            DataError: latents are smaller than 4x4, or the images are not larger by the autoencoder's spatial factor.
        """
        assert batch.images is not None
        assert batch.latents is not None
        assert batch.autoencoder is not None
        plan = self._settle(batch.images, batch.latents, batch.autoencoder)
        latents = crop_to_blocks(batch.latents.double(), plan.latent_block)
        images = crop_to_blocks(batch.images.double(), plan.image_block)
        shown = [index for index in batch.indices if index < self.spec.num_pictures]
        rows: list[list[tuple[Tensor, Tensor]]] = [[] for _ in shown]
        for index, share in enumerate(plan.shares):
            chopped = chop(images, 1 - share, plan.image_block, self.spec.shape).clamp(-1, 1)
            kept = chop(latents, 1 - share, plan.latent_block, self.spec.shape).to(batch.latents.dtype)
            decoded = batch.autoencoder.decode(kept).clamp(-1, 1)
            if decoded.shape != images.shape:
                raise DataError(
                    f"the decoder maps latents of shape {tuple(kept.shape)!r} to {tuple(decoded.shape)!r};"
                    f" expected the images' shape {tuple(images.shape)!r}"
                )
            self._rgb_psnr[index].update(batch.indices, self._psnr(images, chopped))
            self._latent_psnr[index].update(batch.indices, self._psnr(images, decoded))
            for row, rgb, picture in zip(rows, as_pictures(chopped), as_pictures(decoded), strict=False):
                row.append((rgb, picture))
        for index, row in zip(shown, rows, strict=True):
            rgb, pictures = (torch.stack([pair[place] for pair in row]) for place in (0, 1))
            self._pictures[index] = ChoppedPictures(rgb=rgb, decoded=pictures)
        self._num_samples += len(images)

    def _psnr(self, images: Images, others: Images) -> Float[Tensor, " n"]:
        values = psnr_per_image(as_frames(images), as_frames(others)).clamp(max=self.spec.max_psnr)
        return mean_of_frames(values, len(images))

    def _settle(self, images: Images, latents: Float[Tensor, "b d *s i j"], autoencoder: Autoencoder) -> ChopPlan:
        height, width = latents.shape[-2:]
        factor = autoencoder.info.spatial_factor
        if images.shape[-2:] != (height * factor, width * factor):
            raise DataError(
                f"images of {images.shape[-2]}x{images.shape[-1]} do not belong to latents of {height}x{width};"
                f" expected {height * factor}x{width * factor}, larger by the spatial factor {factor}"
            )
        block = fitting_block_size(height, width, self.spec.block_size)
        if self._plan is None:
            shares = distinct_shares(self.spec.shares, block, self.spec.shape)
            self._adopt(ChopPlan(shares=tuple(shares), latent_block=block, image_block=block * factor))
        assert self._plan is not None
        if (block, block * factor) != (self._plan.latent_block, self._plan.image_block):
            raise DataError(f"latents of {height}x{width} need blocks of {block}, earlier ones others: give one size")
        return self._plan

    def _adopt(self, plan: ChopPlan) -> None:
        self._plan = plan
        self._latent_psnr = [SampleMean() for _ in plan.shares]
        self._rgb_psnr = [SampleMean() for _ in plan.shares]

    def state(self) -> ChopState:
        return ChopState(
            plan=self._plan,
            latent_psnr=self._latent_psnr,
            rgb_psnr=self._rgb_psnr,
            pictures=self._pictures,
            num_samples=self._num_samples,
        )

    def merge(self, state: ChopState) -> None:
        """Adds what another rank has seen.

        Raises:
            DataError: its latents were of another size.
        """
        if state.plan is None:
            return
        if self._plan is None:
            self._adopt(state.plan)
        if state.plan != self._plan:
            raise DataError(f"latents of different sizes were evaluated: {self._plan!r} and {state.plan!r}")
        for own, other in zip(self._latent_psnr + self._rgb_psnr, state.latent_psnr + state.rgb_psnr, strict=True):
            own.merge(other)
        self._pictures |= state.pictures
        self._num_samples += state.num_samples

    def compute(self) -> list[EvalResult]:
        plan = self._plan
        if plan is None:
            raise DataError("no images were evaluated: a chop-off curve needs at least one")
        results = []
        for prefix, block, means in (
            ("", plan.latent_block, self._latent_psnr),
            ("rgb_", plan.image_block, self._rgb_psnr),
        ):
            shares = [kept_share(share, block, self.spec.shape) for share in plan.shares]
            values = [mean.compute() for mean in means]
            areas = _areas(shares, means)
            settings = {"block_size": block, "shape": self.spec.shape, "max_psnr": self.spec.max_psnr}
            curve = Curve(x=shares, y=values, x_label="share of DCT coefficients kept", y_label="PSNR (dB)")
            results += [
                EvalResult(
                    metric=f"{prefix}chop_off_curve",
                    curve=curve,
                    unit="dB",
                    num_samples=self._num_samples,
                    spec=settings,
                ),
                EvalResult(
                    metric=f"{prefix}chop_off_area",
                    value=area_under(shares, values),
                    unit="dB",
                    higher_is_better=None if prefix else True,
                    num_samples=self._num_samples,
                    spread=areas.spread(area_under(shares, values)),
                    spec={**settings, "shares": shares},
                    values=areas,
                ),
            ]
        return results

    def draw(self, directory: Path) -> list[Path]:
        from diffusability.eval.figures.chop_figures import draw_chop_curves, draw_chopped_pictures

        results = {result.metric: result for result in self.compute()}
        latents, rgb = results["chop_off_curve"].curve, results["rgb_chop_off_curve"].curve
        assert latents is not None
        assert rgb is not None
        paths = draw_chop_curves(directory, latents, rgb, self.spec.max_psnr)
        pictures = [self._pictures[index] for index in sorted(self._pictures)]
        return [*paths, *draw_chopped_pictures(directory, pictures, latents.x)] if pictures else paths


def _areas(shares: Sequence[float], means: Sequence[SampleMean]) -> SampleValues:
    """The area under each image's own curve, of which the area under the mean curve is the mean."""
    rows = [mean.values() for mean in means]
    columns = zip(*(row.values.tolist() for row in rows), strict=True)
    return SampleValues.from_samples(rows[0].places.tolist(), [area_under(shares, column) for column in columns])


def as_pictures(images: Images) -> list[Float[Tensor, "c h w"]]:
    """One picture of each image or clip (its first frame), float32 in [-1, 1], on the CPU."""
    return list((images[:, :, 0] if images.ndim == 5 else images).float().cpu())
