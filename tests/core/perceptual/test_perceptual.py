import sys
import types
import warnings

import lpips
import pytest
import torch
from torch import nn

from diffusability.core.errors import CheckpointError, TrainingError
from diffusability.core.perceptual.borrowed import BorrowedNetwork
from diffusability.core.perceptual.networks import lpips_network, st_lpips_network
from diffusability.core.perceptual.sources import TRUNK_WEIGHTS, lpips_files, smallest_side, st_lpips_file


def pair(size=48, count=2):
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(count, 3, size, size, generator=generator) * 2 - 1
    return first, (first + 0.3 * torch.randn(first.shape, generator=generator)).clamp(-1, 1)


@pytest.fixture(scope="module")
def library():
    """The lpips library on trunks of random weights, and a file of them as torchvision publishes it."""

    def make(network, folder):
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision: 'pretrained' is deprecated
            theirs = lpips.LPIPS(net=network, pnet_rand=True, verbose=False)
        names = [(name, value) for name, value in theirs.net.state_dict().items()]
        published = {f"features.{name.split('.', 1)[1]}": value for name, value in names}
        published["classifier.6.bias"] = torch.zeros(1000)
        path = folder / f"{network}.pth"
        torch.save(published, path)
        return theirs, path

    return make


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_lpips_agrees_with_its_library(network, library, tmp_path):
    """Values and gradients on the same random trunk against the lpips library."""
    theirs, path = library(network, tmp_path)
    ours = lpips_network(network, path)
    first, second = pair()
    values, gradients = [], []
    for distance in (ours, theirs):
        moved = second.clone().requires_grad_()
        value = distance(first, moved).flatten()
        value.sum().backward()
        values.append(value.detach())
        gradients.append(moved.grad)
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_st_lpips_agrees_with_its_package(network, monkeypatch):
    """Values with the published weights against the package, whose undeclared imports are stood in for."""
    for name in ("IPython", "torchsummary"):
        stand_in = types.ModuleType(name)
        stand_in.embed = stand_in.summary = None
        monkeypatch.setitem(sys.modules, name, stand_in)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from stlpips_pytorch import stlpips

        theirs = stlpips.LPIPS(net=network, variant="shift_tolerant", verbose=False)
    first, second = pair()
    with torch.no_grad():
        torch.testing.assert_close(st_lpips_network(network)(first, second), theirs(first, second).flatten())


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_st_lpips_takes_images_of_the_smallest_side_and_no_smaller(network):
    """The documented smallest side works; one pixel less is refused with both sizes named."""
    side = smallest_side("st-lpips", network)
    distance = st_lpips_network(network)
    assert distance(*pair(side)).isfinite().all()
    with pytest.raises(TrainingError, match=rf"at least {side} pixels a side, got {side - 1}x{side - 1}"):
        distance(*pair(side - 1))
    with pytest.raises(RuntimeError):  # the network itself could not
        distance._distances(*pair(side - 1))


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_lpips_takes_images_of_the_smallest_side_and_no_smaller(network, library, tmp_path):
    """The same for the plain trunks, of random weights."""
    side = smallest_side("lpips", network)
    distance = lpips_network(network, library(network, tmp_path)[1])
    assert distance(*pair(side)).isfinite().all()
    with pytest.raises(TrainingError, match=rf"at least {side} pixels"):
        distance(*pair(side - 1))
    with pytest.raises(RuntimeError):
        distance._distances(*pair(side - 1))


def test_it_is_float32_inside_autocast():
    """The value under bf16 autocast, and of bf16 images, against float32 on the same values."""
    first, second = (images.bfloat16() for images in pair())
    expected = st_lpips_network()(first.float(), second.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(st_lpips_network()(first, second), expected)


def test_gradients_are_finite_where_all_features_are_zero():
    """Flat images, whose features vanish in places: a plain square root would give NaN."""
    flat = torch.full((1, 3, 40, 40), -1.0)
    moved = flat.clone().requires_grad_()
    st_lpips_network("alex")(flat, moved).sum().backward()
    assert moved.grad.isfinite().all()


def test_clips_and_grey_images():
    """A clip's distance against the mean of its frames'; a grey image's against its three equal channels."""
    first, second = pair(count=4)
    distance = st_lpips_network()
    clips = [images.view(2, 2, 3, 48, 48).transpose(1, 2) for images in (first, second)]
    torch.testing.assert_close(distance(*clips), distance(first, second).view(2, 2).mean(1))
    grey = [images[:, :1] for images in (first, second)]
    torch.testing.assert_close(distance(*grey), distance(*(images.expand(-1, 3, -1, -1) for images in grey)))
    with pytest.raises(TrainingError, match="1 or 3 channels, got 2"):
        distance(first[:, :2], second[:, :2])


def test_a_missing_trunk_is_named_with_its_source_and_its_place(monkeypatch, tmp_path):
    """The message: file, size, address, folder. TORCH_HOME moves the folder; a file there is found."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "vgg16-397923af.pth"
    with pytest.raises(ValueError, match=rf"{name}' \(528 MiB\).*does not exist; download it from https://.*{name}"):
        lpips_files("vgg")
    with pytest.raises(ValueError, match="hub/checkpoints"):
        lpips_files("vgg")
    place = tmp_path / "hub" / "checkpoints" / name
    place.parent.mkdir(parents=True)
    place.touch()
    assert lpips_files("vgg")[0] == place
    assert TRUNK_WEIGHTS["vgg"].locate(place.parent) == place
    with pytest.raises(ValueError, match=r"elsewhere\.pth"):
        lpips_files("vgg", tmp_path / "elsewhere.pth")


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    """Without the package: the words that install it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'stlpips-pytorch', which is not installed; .*\[st-lpips\]"):
        st_lpips_file("alex")


@pytest.mark.parametrize("content", ["cut", "other", "pickle"])
def test_a_file_that_holds_something_else_is_refused(content, tmp_path, library):
    """A file cut short, one of another network, and a pickle that would run code."""
    path = tmp_path / "trunk.pth"
    if content == "cut":
        library("alex", tmp_path)
        path.write_bytes((tmp_path / "alex.pth").read_bytes()[:100_000])
    elif content == "other":
        torch.save(nn.Conv2d(3, 3, 3).state_dict(), path)
    else:
        torch.save(nn.Conv2d(3, 3, 3), path)
    with pytest.raises(CheckpointError, match=r"trunk\.pth"):
        lpips_network("alex", path)


def test_a_borrowed_network_is_no_part_of_what_uses_it():
    """Parameters, state and modules of a module that holds one, against a module without."""
    holder = nn.Linear(2, 2)
    borrowed = BorrowedNetwork(nn.Linear(3, 3))
    holder.network = borrowed
    assert set(holder.state_dict()) == {"weight", "bias"}
    assert len(list(holder.modules())) == 1
    assert not any(parameter.requires_grad for parameter in borrowed.network.parameters())
    assert borrowed.on(torch.device("cpu")) is borrowed.network
