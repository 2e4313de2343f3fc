"""Samples of trained runs: files, classes, what they depend on, and what is refused."""

import json
import shutil
import subprocess
import sys

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import run_here, tiny_spec, write_spec
from typer.testing import CliRunner

from diffusability.core import load_generator
from diffusability.core.cli.app import app
from diffusability.core.contracts.autoencoder import build_autoencoder
from diffusability.core.contracts.diffusion_model import DiffusionModel
from diffusability.core.contracts.normalizer import LatentNormalizer
from diffusability.core.errors import CheckpointError, DataError, SpecError
from diffusability.core.models.saved_models import load_diffusion_model, save_autoencoder, save_diffusion_model
from diffusability.core.sampling.load_generator import find_denoiser
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.components import AutoencoderSpec
from diffusability.models.specs.denoisers.dit import DiTSpec

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with two unconditional denoisers, and a third one with three classes, made out of the first."""
    folder = tmp_path_factory.mktemp("sampling")
    content = tiny_spec()
    for name in ("measure", "generate"):
        del content["stages"][name]
    content["stages"]["pretrain"] |= {"steps": 2, "preview": None}
    content["stages"]["dit"] |= {"steps": 2, "preview": None, "evaluate": None}
    content["variants"] = {"a": {}, "b": {"stages.dit.optimizer.lr": 2.0e-3}}
    _, run = run_here(write_spec(folder, content), folder / "runs")
    return run.root


@pytest.fixture(scope="module")
def conditional(trained):
    """The folder of a denoiser of three classes whose weights are not zero, beside the run's own ones."""
    own = find_denoiser(trained, variant="a")
    model = load_diffusion_model(own)
    spec = DiTSpec(size="Ti/4")
    torch.manual_seed(0)
    denoiser = spec.build(BuildContext(latent_shape=model.latent_shape, num_classes=3))
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    folder = own.parent.parent / "conditional"
    save_diffusion_model(attrs.evolve(model, denoiser=denoiser, num_classes=3, spec=spec), folder / "model")
    reference = json.loads((own / "config.json").read_text())["autoencoder"]
    config = json.loads((folder / "model" / "config.json").read_text())
    (folder / "model" / "config.json").write_text(json.dumps(config | {"autoencoder": reference}))
    return folder


def dfz(*arguments):
    """Runs the command in this process; errors are raised, as ``main`` catches them."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def pixels_of(path):
    """The pixels of a file, rows first, from 0 to 255."""
    with Image.open(path) as image:
        return np.asarray(image, dtype=np.float32)


def test_the_command_writes_images_a_sheet_and_what_they_are(conditional, tmp_path):
    """Five samples of one class: files, sizes, the sheet, and the record; then again over them."""
    arguments = ("sample", conditional, "--num", 5, "--class", 2, "--seed", 3, "--steps", 2, "--guidance-scale", 1.5)
    output = dfz(*arguments, "--batch-size", 2, "--to", tmp_path / "out")
    assert "5 samples" in output
    for index in range(5):
        assert pixels_of(tmp_path / "out" / f"{index:05d}.png").shape == (32, 32, 3)
    assert pixels_of(tmp_path / "out" / "sheet.png").shape[1] > 64
    about = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert [entry["label"] for entry in about["samples"]] == [2] * 5
    assert about["sampler"] == {"kind": "euler", "steps": 2, "guidance_scale": 1.5}
    dfz(*arguments, "--to", tmp_path / "out")


def test_a_sample_depends_on_seed_and_number_alone(conditional):
    """Samples 0 to 4 at once against sample 3 alone and in another batch; then another seed, class and number."""
    generator = load_generator(conditional, seed=7, sampler={"steps": 3, "guidance_scale": 2.0})
    together = generator.at(range(5), 1).images
    torch.testing.assert_close(generator.at([3], 1).images, together[3:4], rtol=0, atol=2e-5)
    torch.testing.assert_close(generator.at([9, 3], 1).images[1:], together[3:4], rtol=0, atol=2e-5)
    drawn = generator.at(range(5))
    assert drawn.labels.tolist() == [generator.at([k]).labels.item() for k in range(5)]
    for other in (generator.at([3], 2), generator.at([4], 1), load_generator(conditional, seed=8).at([3], 1)):
        assert not torch.allclose(other.images, together[3:4], atol=1e-3)


def test_files_hold_what_python_gives(conditional, tmp_path):
    """A PNG against the generator's image, to the rounding of 8 bits."""
    dfz("sample", conditional, "--num", 2, "--class", 0, "--steps", 2, "--to", tmp_path / "out")
    images = load_generator(conditional, sampler={"steps": 2}).at(range(2), 0).images
    pixels = pixels_of(tmp_path / "out" / "00001.png") / 127.5 - 1
    np.testing.assert_allclose(pixels, images[1].permute(1, 2, 0).numpy(), atol=0.0041)


def test_a_variant_must_be_chosen_where_there_are_several(trained, tmp_path):
    """The message names both; with one of them it works, and both can be moved together."""
    with pytest.raises(SpecError, match=r"several trained models.*--variant a.*--variant b"):
        dfz("sample", trained, "--num", 1)
    output = dfz("sample", trained, "--num", 1, "--variant", "b", "--steps", 1)
    assert "1 samples" in output
    assert (trained / "generated" / "b-seed-0" / "00000.png").is_file()
    shutil.copytree(trained, tmp_path / "elsewhere")
    moved = load_generator(tmp_path / "elsewhere", variant="a", sampler={"steps": 1}).at([0]).images
    torch.testing.assert_close(moved, load_generator(trained, variant="a", sampler={"steps": 1}).at([0]).images)


def test_wrong_classes_and_guidance_are_refused_with_both_values(trained, conditional, tmp_path):
    """The class and the number of classes; the scale and the unconditional model; nothing is written."""
    to = ("--to", tmp_path / "out")
    with pytest.raises(SpecError, match="label 3 is out of range for a model of 3 classes; expected 0 to 2"):
        dfz("sample", conditional, "--class", 3, *to)
    with pytest.raises(SpecError, match=r"label 1 was given, and the model is unconditional"):
        dfz("sample", trained, "--variant", "a", "--class", 1, *to)
    with pytest.raises(SpecError, match=r"guidance_scale 4.0 needs a class-conditional model.*unconditional"):
        dfz("sample", trained, "--variant", "a", "--guidance-scale", 4, *to)
    with pytest.raises(DataError, match="label -1 is out of range"):
        load_generator(conditional).at([0], torch.tensor([-1]))
    assert not (tmp_path / "out").exists()


def test_wrong_folders_and_samplers_are_refused(trained, conditional, tmp_path):
    """No run, an unknown sampler, a folder with other things, a model without a decoder."""
    with pytest.raises(SpecError, match="holds no trained denoiser"):
        dfz("sample", tmp_path)
    with pytest.raises(SpecError, match=r"unknown sampler 'oiler'.*did you mean 'euler'"):
        dfz("sample", conditional, "--sampler", "oiler")
    with pytest.raises(SpecError, match="holds no earlier samples"):
        dfz("sample", conditional, "--to", trained)
    with pytest.raises(SpecError, match="expected fp32, bf16 or auto"):
        dfz("sample", conditional, "--precision", "fp16")
    alone = tmp_path / "alone"
    shutil.copytree(conditional / "model", alone)
    config = json.loads((alone / "config.json").read_text())
    del config["autoencoder"]
    (alone / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="names no autoencoder"):
        load_generator(alone)
    decoder = (
        find_denoiser(trained, variant="a")
        / json.loads((conditional / "model" / "config.json").read_text())["autoencoder"]["path"]
    )
    assert load_generator(alone, autoencoder=decoder, sampler={"steps": 1}).at([0]).images.shape == (1, 3, 32, 32)


def test_sampling_needs_no_engine(conditional):
    """A fresh interpreter that samples has not imported DeepSpeed, nor the engine."""
    program = (
        "import sys\n"
        "from diffusability.core import load_generator\n"
        f"images = load_generator({str(conditional)!r}, sampler={{'steps': 1}}).at(range(2), 1).images\n"
        "unwanted = ('deepspeed', 'diffusability.core.engine')\n"
        "print(tuple(images.shape), [name for name in sys.modules if name.startswith(unwanted)])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "(2, 3, 32, 32) []", result.stderr


def test_an_exported_denoiser_makes_the_same_samples_without_its_run(trained, tmp_path):
    """``dfz export`` of a variant, moved away and sampled from, against the run; its card, and its own autoencoder."""
    with pytest.raises(SpecError, match="several trained models"):
        dfz("export", trained, "--to", tmp_path / "out", "--stage", "dit")
    dfz("export", trained, "--to", tmp_path / "out", "--stage", "dit", "--variant", "b")
    assert "on latents of shape (4, 8, 8), unconditional" in (tmp_path / "out" / "README.md").read_text()
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    expected = load_generator(trained, variant="b", sampler={"steps": 2}).at(range(2)).images
    images = load_generator(tmp_path / "elsewhere", sampler={"steps": 2}).at(range(2)).images
    torch.testing.assert_close(images, expected, rtol=0, atol=0)
    assert (tmp_path / "elsewhere" / "autoencoder" / "model.safetensors").is_file()


def test_clips_are_sampled_as_films(tmp_path):
    """A denoiser of latent clips with rotary positions and its autoencoder: frames of the mp4 against 1 + n t."""
    av = pytest.importorskip("av")
    autoencoder = build_autoencoder(
        AutoencoderSpec.model_validate({"kind": "compact-video-kl", "width": 16, "blocks": 1, "spatial_factor": 4})
    )
    save_autoencoder(autoencoder, tmp_path / "autoencoder")
    channels, factor = autoencoder.info.latent_channels, autoencoder.info.temporal_factor
    shape = (channels, 2, 4, 6)
    spec = DiTSpec(size="Ti/2", positions="rope", norm="rms")
    model = DiffusionModel(
        denoiser=spec.build(BuildContext(latent_shape=shape)),
        normalizer=LatentNormalizer.identity(channels),
        latent_shape=shape,
        num_classes=None,
        spec=spec,
    )
    save_diffusion_model(model, tmp_path / "model")
    dfz(
        "sample",
        tmp_path,
        "--autoencoder",
        tmp_path / "autoencoder",
        "--num",
        2,
        "--steps",
        1,
        "--to",
        tmp_path / "out",
    )
    with av.open(str(tmp_path / "out" / "00001.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24").shape for frame in container.decode(video=0)]
    assert frames == [(16, 24, 3)] * (1 + factor)
    assert pixels_of(tmp_path / "out" / "sheet.png").shape[1] > 24
