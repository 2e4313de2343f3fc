from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy_autoencoders import LinearConvolutions

from diffusability.core.contracts.features import FeatureExtractor
from diffusability.core.contracts.objective import Batch
from diffusability.core.engine.task import TrainTask
from diffusability.core.errors import SpecError
from diffusability.core.specs.build_context import AutoencoderInfo, BuildContext
from diffusability.core.specs.components import FeaturesSpec
from diffusability.regularizers.adaptive_balance import GradientBalance
from diffusability.regularizers.specs.local_correlation import LocalCorrelationSpec
from diffusability.regularizers.specs.representation_alignment import RepresentationAlignmentSpec
from diffusability.regularizers.terms.representation_alignment import alignment_loss, marginal_distance_loss

Noise = Callable[..., Tensor]
CONTEXT = BuildContext(autoencoder=AutoencoderInfo(latent_channels=4, spatial_factor=2), image_shape=(3, 16, 16))


class Patches(FeatureExtractor):
    """Six features of each 4x4 patch, from a fixed convolution."""

    dimension = 6

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 6, 4, stride=4)

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images).mean((-2, -1))

    def feature_map(self, images: Tensor) -> Tensor:
        return self.conv(images.float())


class Vectors(Patches):
    """Gives no maps."""

    def feature_map(self, images: Tensor) -> Tensor:
        return FeatureExtractor.feature_map(self, images)


class PatchesSpec(FeaturesSpec):
    kind: str = "patches"
    maps: bool = True

    def build(self, context: BuildContext) -> FeatureExtractor:
        return Patches() if self.maps else Vectors()


def spec_of(maps: bool = True, **fields: Any) -> RepresentationAlignmentSpec:
    return RepresentationAlignmentSpec(features=PatchesSpec(maps=maps), **fields)


def test_the_loss_is_that_of_the_paper(noise: Noise) -> None:
    """Loops over places and pairs of places of each image, with margins that cut some of them off."""
    projected, features = noise(2, 5, 2, 3), noise(2, 5, 2, 3, seed=1)

    def cosine(a: Tensor, b: Tensor) -> float:
        return float(a @ b / (a.norm() * b.norm()))

    cosines, distances = [], []
    for image in range(2):
        z, f = projected[image].flatten(1).T, features[image].flatten(1).T
        for i in range(6):
            cosines.append(max(0.0, 1 - 0.5 - cosine(z[i], f[i])))
            distances += [max(0.0, abs(cosine(z[i], z[j]) - cosine(f[i], f[j])) - 0.25) for j in range(6)]
    assert 0 in cosines
    assert distances.count(0) > 12
    expected = sum(cosines) / len(cosines) + sum(distances) / len(distances)
    assert alignment_loss(projected, features).item() == pytest.approx(expected, rel=1e-9)


def test_aligned_latents_cost_nothing(noise: Noise) -> None:
    """Latents that are the features up to their length, without margins, and rotated ones for the distances alone."""
    features = noise(2, 5, 3, 3)
    assert alignment_loss(3 * features, features, 0.0, 0.0).item() == pytest.approx(0, abs=1e-9)
    rotation = torch.linalg.qr(noise(5, 5, seed=2)).Q
    rotated = torch.einsum("dc,bchw->bdhw", rotation, features)
    assert marginal_distance_loss(rotated, features, 0.0).item() == pytest.approx(0, abs=1e-9)


def test_gradients(noise: Noise) -> None:
    """Autograd against finite differences, with margins of 0 (away from the kinks of the ReLUs)."""
    features = noise(1, 4, 2, 2)
    assert torch.autograd.gradcheck(
        lambda z: alignment_loss(z, features, 0.0, 0.0), (noise(1, 4, 2, 2, seed=1).requires_grad_(),)
    )


def test_in_a_task_the_head_and_the_encoder_train_and_the_extractor_does_not(
    task_of: Callable[..., TrainTask], batch_of: Callable[..., Batch], noise: Noise
) -> None:
    """Term by hand with the features resampled to the latents; gradients; and what the module's state holds."""
    regularizer = spec_of(adaptive=False).build(CONTEXT)
    assert set(regularizer.state_dict()) == {"projection.weight"}
    regularizer.double()
    task = task_of(LinearConvolutions())
    images = noise(2, 3, 16, 16)
    output = task.objective(batch_of(images))
    term = regularizer(output, task.objective)
    maps = F.interpolate(Patches().feature_map(images), (8, 8), mode="bilinear", antialias=True).double()
    expected = alignment_loss(regularizer.projection(output.latents), maps)
    torch.testing.assert_close(term, expected)
    term.backward()
    assert regularizer.projection.weight.grad.abs().sum() > 0
    assert task.objective.autoencoder.encoder.weight.grad.abs().sum() > 0
    assert task.objective.autoencoder.decoder.weight.grad is None


def test_the_adaptive_weight_balances_gradients_at_the_latents(
    task_of: Callable[..., TrainTask], batch_of: Callable[..., Batch], noise: Noise
) -> None:
    """The factor against norms that torch.autograd.grad gives through the graph of the step."""
    regularizer = spec_of(adapt_every=2).build(CONTEXT).double()
    task = task_of(LinearConvolutions())
    ratios, factors = [], []
    for step in range(5):
        output = task.objective(batch_of(noise(2, 3, 16, 16, seed=step), step))
        term = regularizer(output, task.objective)
        norms = [
            torch.autograd.grad(loss, output.latents, retain_graph=True)[0].norm()
            for loss in (output.losses["l1"], term)
        ]
        ratios.append(float(norms[0] / norms[1]))
        factors.append(float(regularizer.factor()))
    # Measured at steps 0, 2 and 4; at once in the first, from the next step on in the others.
    assert factors == pytest.approx([ratios[0], ratios[0], ratios[0], ratios[2], ratios[2]], rel=1e-4)


def test_a_balance_is_part_of_the_state(
    task_of: Callable[..., TrainTask], batch_of: Callable[..., Batch], noise: Noise
) -> None:
    """A copy that loads the state between a measurement and its use goes on alike."""
    first, second = (LocalCorrelationSpec(adaptive=True, adapt_every=2).build(CONTEXT) for _ in range(2))
    task = task_of(LinearConvolutions())
    outputs = [task.objective(batch_of(noise(2, 3, 16, 16, seed=step), step)) for step in range(4)]
    for output in outputs[:3]:
        first(output, task.objective)
    second.load_state_dict(first.state_dict())
    for regularizer in (first, second):
        regularizer(outputs[3], task.objective)
    assert first.factor().item() == second.factor().item() > 0
    assert isinstance(first.balance, GradientBalance)


def test_an_extractor_without_maps_is_refused_when_built() -> None:
    """Before training, with the kind that does not fit."""
    with pytest.raises(SpecError, match=r"needs features by place.*expected another feature extractor than 'patches'"):
        spec_of(maps=False).build(CONTEXT)
    with pytest.raises(SpecError, match="must know the autoencoder"):
        spec_of().build(BuildContext())
