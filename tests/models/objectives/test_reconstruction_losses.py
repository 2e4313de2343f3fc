from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from scipy.fft import dctn
from torch import Tensor

from diffusability.core.contracts.objective import Batch
from diffusability.core.errors import TrainingError
from diffusability.core.perceptual.networks import st_lpips_network
from diffusability.core.specs.build_context import BuildContext
from diffusability.models.objectives.image_distances import (
    absolute_error,
    charbonnier,
    dct_distance,
    frequency_weights,
    pseudo_huber,
    squared_error,
)
from diffusability.models.objectives.reconstruction import Reconstruction
from diffusability.models.specs.objectives.reconstruction import ReconstructionSpec

AUTOENCODER = {"kind": "compact-kl", "spatial_factor": 4, "latent_channels": 4, "width": 16, "blocks": 1}


def objective_of(**settings: object) -> Reconstruction:
    torch.manual_seed(0)
    objective = ReconstructionSpec(**{"autoencoder": AUTOENCODER, **settings}).build(BuildContext())
    assert isinstance(objective, Reconstruction)
    return objective


@pytest.fixture
def pair(smooth_images: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    images = smooth_images(2, 32)
    return images, 0.5 * images.flip(0) + 0.1


def test_pseudo_huber_is_a_shifted_charbonnier(pair: tuple[Tensor, Tensor]) -> None:
    """``delta (charbonnier_delta - delta)``, the closed form; and both limits: Huber's parabola and its slope."""
    delta = 0.3
    expected = delta * (charbonnier(*pair, delta) - delta)
    torch.testing.assert_close(pseudo_huber(*pair, delta), expected)
    torch.testing.assert_close(pseudo_huber(*pair, 1e3), 0.5 * squared_error(*pair), rtol=1e-2, atol=1e-4)
    torch.testing.assert_close(charbonnier(*pair, 1e-6), absolute_error(*pair))


def test_charbonnier_of_equal_images_has_finite_gradients() -> None:
    """Its value, epsilon, and its gradient, zero, where |x - y| has none."""
    images = torch.zeros(1, 3, 8, 8)
    other = images.clone().requires_grad_()
    value = charbonnier(images, other, 1e-3)
    value.backward()
    assert value.item() == pytest.approx(1e-3)
    assert torch.equal(other.grad, torch.zeros_like(images))


def test_the_dct_distance_agrees_with_scipy(pair: tuple[Tensor, Tensor]) -> None:
    """Against scipy's DCT of every block, with the weights written out."""
    block, exponent = 8, 1.5
    difference = (pair[0] - pair[1]).numpy()
    blocks = difference.reshape(2, 3, 4, block, 4, block).transpose(0, 1, 2, 4, 3, 5)
    coefficients = abs(dctn(blocks, axes=(-2, -1), norm="ortho"))
    weights = frequency_weights(block, exponent).numpy()
    assert weights.mean() == pytest.approx(1)
    assert weights[3, 4] / weights[0, 0] == pytest.approx(8**exponent, rel=1e-5)
    expected = float((weights * coefficients).mean())
    assert dct_distance(*pair, block, exponent).item() == pytest.approx(expected, rel=1e-5)


def test_the_dct_distance_names_a_side_that_does_not_divide() -> None:
    """As it happens at an SE factor."""
    with pytest.raises(TrainingError, match="blocks of 8 pixels; got 12x16"):
        dct_distance(torch.zeros(1, 3, 12, 16), torch.ones(1, 3, 12, 16), 8, 0.0)


def test_all_terms_are_weighted_summed_and_logged(
    batch_of: Callable[..., Batch], smooth_images: Callable[..., Tensor]
) -> None:
    """Every loss at once against each written out; the perceptual one against ST-LPIPS; and without it."""
    objective = objective_of(
        l1=0.5,
        mse=2.0,
        charbonnier={"weight": 0.3, "epsilon": 0.01},
        pseudo_huber={"weight": 0.7, "delta": 0.2},
        dct={"weight": 0.1, "block_size": 4, "exponent": 1.0},
        perceptual={"kind": "st-lpips", "network": "alex", "weight": 0.4},
    )
    output = objective(batch_of(smooth_images(2, 32)))
    x, y = output.images, output.reconstruction
    pixels = (
        0.5 * F.l1_loss(y, x)
        + 2.0 * F.mse_loss(y, x)
        + 0.3 * charbonnier(x, y, 0.01)
        + 0.7 * pseudo_huber(x, y, 0.2)
        + 0.1 * dct_distance(x, y, 4, 1.0)
    )
    perceptual = st_lpips_network("alex")(x, y).mean()
    torch.testing.assert_close(output.losses["reconstruction"], pixels + 0.4 * perceptual)
    torch.testing.assert_close(output.monitors["st_lpips"], perceptual.detach())
    assert {"l1", "mse", "charbonnier", "pseudo_huber", "dct", "st_lpips"} <= set(output.monitors)
    torch.testing.assert_close(objective.reconstruction_loss(x, y, perceptual=False), pixels)


def test_a_perceptual_network_is_neither_trained_nor_saved(tmp_path: Path) -> None:
    """Parameters and state of the objective against those without the loss; also of what is saved."""
    plain, perceptual = objective_of(), objective_of(perceptual={"kind": "st-lpips"})
    assert set(plain.state_dict()) == set(perceptual.state_dict())
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in perceptual.named_parameters()]
    for name, objective in (("plain", plain), ("perceptual", perceptual)):
        objective.save(tmp_path / name)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("plain", "perceptual")]
    assert sizes[0] == sizes[1]


def test_gradients_of_a_perceptual_loss_reach_the_encoder(
    batch_of: Callable[..., Batch], smooth_images: Callable[..., Tensor]
) -> None:
    """Every trained parameter gets a finite gradient from the perceptual term alone; the network gets none."""
    objective = objective_of(l1=0.0, perceptual={"kind": "st-lpips", "network": "alex"})
    objective(batch_of(smooth_images(2, 32))).losses["reconstruction"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.parameters())
    assert any(p.grad.abs().sum() > 0 for p in objective.autoencoder.encoder.parameters())
    assert not any(p.requires_grad or p.grad is not None for p in st_lpips_network("alex").parameters())
    with pytest.raises(TrainingError, match="without its perceptual part the reconstruction loss is empty"):
        objective.reconstruction_loss(smooth_images(1, 32), smooth_images(1, 32), perceptual=False)


def test_missing_weights_are_found_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``check_inputs`` with an empty cache names the file; with a given path, the path."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    spec = ReconstructionSpec(autoencoder=AUTOENCODER, perceptual={"kind": "lpips"})
    with pytest.raises(ValueError, match=r"'vgg16-397923af\.pth' \(528 MiB\)"):
        spec.check_inputs()
    given = {"kind": "lpips", "network": "alex", "weights": str(tmp_path / "mine.pth")}
    with pytest.raises(ValueError, match=r"mine\.pth' does not exist"):
        ReconstructionSpec(autoencoder=AUTOENCODER, perceptual=given).check_inputs()
    ReconstructionSpec(autoencoder=AUTOENCODER, perceptual={"kind": "st-lpips"}).check_inputs()


@pytest.mark.parametrize(
    ("settings", "shape", "message"),
    [
        ({"perceptual": {"kind": "lpips", "network": "alex"}}, (3, 30, 64), "at least 31 pixels a side; .* 30x64"),
        ({"perceptual": {"kind": "st-lpips"}}, (4, 64, 64), "1 or 3 channels; the data has 4"),
        ({"dct": {"block_size": 7}}, (3, 64, 64), "block_size 7 does not divide images of 64x64"),
    ],
)
def test_images_that_do_not_fit_are_found_before_anything_starts(
    settings: dict, shape: tuple[int, ...], message: str
) -> None:
    """``check_images`` against shapes that do not fit, and one that does."""
    spec = ReconstructionSpec(autoencoder=AUTOENCODER, **settings)
    with pytest.raises(ValueError, match=message):
        spec.check_images(shape)
    ReconstructionSpec(autoencoder=AUTOENCODER, perceptual={"kind": "st-lpips"}).check_images((3, 64, 64))


def test_a_weight_file_for_st_lpips_is_refused() -> None:
    """It has its own."""
    with pytest.raises(ValidationError, match="leave 'weights' out"):
        ReconstructionSpec(autoencoder=AUTOENCODER, perceptual={"kind": "st-lpips", "weights": "a.pth"})
