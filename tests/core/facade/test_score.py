"""Scores from Python against those of the command line and against plain formulas."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from toy_autoencoders import LinearConvolutions

from diffusability.core import PluginError, SpecError, load_autoencoder, score
from diffusability.core.cli.score_command import score_autoencoders
from diffusability.core.scoring.scorecard_spec import ScoreOptions

REFERENCE = "compact-kl:width=16,blocks=1,latent_channels=4,spatial_factor=4"
QUICK = ["psnr", "dct-spectrum", "chop-off", "kl-per-dim"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve smooth pictures of 32x32 px."""
    path = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(0)
    for number in range(12):
        small = torch.rand(1, 3, 8, 8, generator=generator)
        large = nn.functional.interpolate(small, size=32, mode="bicubic").clamp(0, 1)[0]
        Image.fromarray((large.permute(1, 2, 0) * 255).round().byte().numpy()).save(path / f"{number:02d}.png")
    return path


def pixels(folder):
    return torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]))


@pytest.mark.integration
def test_the_numbers_are_those_of_the_command_line(folder, tmp_path):
    """At bf16, every metric of ``dfz score --json`` with its settings, to the bit: of the folder, and of tensors."""
    options = ScoreOptions(data=str(folder), num=12, resolution=32, precision="bf16", batch_size=5)
    score_autoencoders([REFERENCE], options, None, 1, tmp_path / "runs", tmp_path / "score.json", "mine")
    (typed,) = json.loads((tmp_path / "score.json").read_text())["autoencoders"].values()
    given = {"num": 12, "precision": "bf16", "batch_size": 5}
    card = score(REFERENCE, folder, resolution=32, **given)
    assert json.loads(json.dumps(card.to_json()["metrics"])) == typed["metrics"]
    assert len(card.values) > 20
    images = pixels(folder).permute(0, 3, 1, 2)
    autoencoder = load_autoencoder(REFERENCE)
    weight = next(iter(autoencoder.parameters()))
    again = score(autoencoder, images, **given)
    assert again.values == card.values
    assert again.curves == card.curves
    assert next(iter(autoencoder.parameters())) is weight


class Plain(nn.Module):
    """Someone's autoencoder, which knows nothing of this project: a tensor each way."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = LinearConvolutions().float()

    def encode(self, images):
        return self.inner.encode(images).mean

    def decode(self, latents):
        return self.inner.decode(latents)


@pytest.mark.parametrize(
    "form",
    [
        lambda plain: (plain.encode, plain.decode),
        lambda plain: (plain.inner.encoder, plain.inner.decoder),
        lambda plain: type("Anything", (), {"encode": plain.encode, "decode": plain.decode})(),
        lambda plain: type("Parallel", (nn.Module,), {})(),
    ],
    ids=["functions", "modules", "object", "parallel"],
)
def test_whatever_encodes_and_decodes_is_scored(folder, form):
    """Pairs, objects and what a parallel wrapper holds, against the module itself."""
    plain = Plain()
    given = form(plain)
    if isinstance(given, nn.Module):
        given.module = plain
    images = pixels(folder).numpy()
    expected = score(plain, images, evaluators=QUICK[:3], precision="fp32")
    assert score(given, images, evaluators=QUICK[:3], precision="fp32").values == expected.values


def test_psnr_is_that_of_a_plain_loop(folder):
    """The mean over images of ``10 log10(4 / mse)``, reconstructions clamped."""
    plain, images = Plain(), pixels(folder).permute(0, 3, 1, 2).float() / 127.5 - 1
    card = score(plain, images, evaluators=["psnr"], precision="fp32")
    with torch.no_grad():
        errors = (plain.decode(plain.encode(images)).clamp(-1, 1) - images).double().square().mean((1, 2, 3))
    assert card["psnr"] == pytest.approx((10 * torch.log10(4 / errors)).mean().item(), rel=1e-6)


def test_a_model_in_training_is_left_as_it_was(folder):
    """Mode, gradients, memory format and the random state; a layer of dropout shows that it was in eval mode."""
    plain = Plain()
    plain.dropout = nn.Dropout(0.9)
    encode = plain.encode
    plain.encode = lambda images: plain.dropout(encode(images))
    plain.train()
    plain.inner.eval()
    images = pixels(folder).numpy()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = score(plain, images, evaluators=["psnr"], precision="bf16")
    assert torch.equal(torch.get_rng_state(), state)
    assert first.values == score(plain, images, evaluators=["psnr"], precision="bf16").values
    assert [plain.training, plain.dropout.training, plain.inner.training] == [True, True, False]
    assert all(parameter.requires_grad for parameter in plain.parameters())
    assert all(parameter.is_contiguous() for parameter in plain.parameters())


def test_a_scorecard_reads_well_in_every_form(folder, tmp_path):
    """Text, JSON and HTML hold the same rounded numbers; a name that is no metric is named with those that are."""
    card = score(REFERENCE, folder, resolution=32, evaluators=QUICK, name="<mine>", precision="fp32")
    assert repr(card) == card.table()
    number = f"{card['psnr']:.4g}"
    assert any(line.startswith("PSNR (dB)") and number in line for line in card.table().splitlines())
    assert "the autoencoder is untrained: all weights are random (seed 0)" in card.table()
    page = card._repr_html_()
    assert number in page
    assert "&lt;mine&gt;" in page
    assert "<mine>" not in page
    written = card.to_json(tmp_path / "card.json")
    assert json.loads((tmp_path / "card.json").read_text()) == json.loads(json.dumps(written))
    assert written["metrics"]["psnr"]["value"] == card["psnr"]
    with pytest.raises(KeyError, match="there is no number 'psnrr'; there are: psnr"):
        card["psnrr"]


def test_progress_and_unreadable_images_are_reported(folder, tmp_path):
    """A damaged file among twelve is a remark; the last call says that all are done."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "12.png").write_bytes(b"no picture")
    calls = []
    given = {"resolution": 32, "evaluators": ["psnr"]}
    card = score(REFERENCE, tmp_path, on_progress=lambda *counts: calls.append(counts), **given)
    assert calls[-1] == (13, 13)
    assert any("12.png" in remark for remark in card.remarks)


@pytest.mark.parametrize(
    ("autoencoder", "options", "error", "message"),
    [
        ("no-such-kind:x", {}, SpecError, "cannot be found"),
        (object(), {}, PluginError, "has no method 'encode'; expected an object with encode and decode, a pair"),
        ((len,), {}, PluginError, r"expected two functions, \(encode, decode\)"),
        ((lambda images: images.mean(), lambda latents: latents), {}, PluginError, "none of the inputs"),
        (REFERENCE, {"evaluators": ["psnrr"]}, SpecError, "unknown evaluator 'psnrr'.*did you mean 'psnr'"),
        (REFERENCE, {"evaluators": [{"kind": "psnr", "nun": 1}]}, SpecError, "unknown key 'nun'"),
    ],
)
def test_mistakes_are_named(folder, autoencoder, options, error, message):
    """One sentence, of the class that a caller can catch."""
    with pytest.raises(error, match=message):
        score(autoencoder, folder, resolution=32, **options)


def test_a_run_with_several_autoencoders_must_be_told_apart(monkeypatch):
    """The labels and folders of those that a reference stands for."""
    from diffusability.core.facade import autoencoders
    from diffusability.core.scoring.named_autoencoders import Named

    several = [Named(label=label, spec={"kind": "saved", "path": f"runs/x/{label}"}) for label in ("se", "control")]
    monkeypatch.setattr(autoencoders, "named_autoencoders", lambda references, trust_code: several)
    with pytest.raises(SpecError, match=r"se \(runs/x/se\), control \(runs/x/control\)"):
        load_autoencoder("runs/x")
