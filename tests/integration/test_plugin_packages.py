"""Plugins as their authors and users meet them: packages that pip installs into an environment of their own."""

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from tiny_runs import metrics, tiny_spec, write_spec

from diffusability.core.errors import PluginError
from diffusability.core.plugins.template import KINDS, write_plugin

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).resolve().parents[1] / "example_plugin"


class Environment:
    """A virtual environment that sees the packages of this one, and what is installed into it besides."""

    def __init__(self, folder):
        venv.create(folder, with_pip=False)
        self.python = next(folder.glob("bin/python"))
        (packages,) = folder.glob("lib/python*/site-packages")
        inherited = [path for path in sys.path if path and Path(path).is_dir() and "lib-dynload" not in path]
        standard = {path for path in inherited if Path(path).name.startswith("python3") or path.endswith(".zip")}
        (packages / "inherited.pth").write_text("".join(f"{path}\n" for path in inherited if path not in standard))

    def pip(self, *arguments):
        command = [sys.executable, "-m", "pip", "--python", self.python, *arguments]
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr

    def install(self, *what):
        self.pip("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", *what)

    def run(self, *arguments, cwd=None, code=0):
        environment = {
            "PATH": "/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "160",
            "HOME": str(self.python.parent),
        }
        command = [str(self.python), "-m", *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout + result.stderr

    def dfz(self, *arguments, code=0):
        return self.run("diffusability.core.cli", *arguments, code=code)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("fresh") / "venv")


def test_the_example_is_as_small_as_it_says():
    """The lines of a regularizer, its pyproject with them, against 40; and that the tutorial shows these very files."""
    files = [EXAMPLE / "pyproject.toml", EXAMPLE / "diffusability_total_variation.py"]
    assert sum(len(path.read_text().splitlines()) for path in files) <= 40
    tutorial = (EXAMPLE.parents[1] / "docs" / "write-a-plugin.md").read_text()
    files.append(EXAMPLE / "diffusability_latent_variation.py")
    assert all(path.read_text().strip() in tutorial for path in files)


def test_a_third_party_plugin_from_wheel_to_uninstall(tmp_path, environment):
    """Built, installed, listed with its summary, in the schema, trained with; then gone, and named as unknown."""
    shutil.copytree(EXAMPLE, tmp_path / "source")
    environment.run("hatchling", "build", "--target", "wheel", "--directory", tmp_path, cwd=tmp_path / "source")
    (wheel,) = tmp_path.glob("*.whl")
    assert {"diffusability_total_variation.py", "diffusability_latent_variation.py"} <= set(
        zipfile.ZipFile(wheel).namelist()
    )
    content = tiny_spec()
    content["stages"] = {"pretrain": content["stages"]["pretrain"] | {"steps": 3, "preview": None}}
    content["stages"]["pretrain"]["regularizers"] = [{"kind": "total-variation", "weight": 0.01}]
    spec = write_spec(tmp_path, content)

    environment.install(wheel)
    listed = environment.dfz("plugins", "regularizers")
    assert "regularizers of diffusability-total-variation 0.1.0" in listed
    assert "Mean absolute difference of neighbouring latents." in listed
    schema = json.loads(environment.dfz("schema"))
    assert schema["$defs"]["TotalVariationSpec"]["properties"]["kind"]["const"] == "total-variation"
    environment.dfz("run", spec, "--runs", tmp_path / "runs")
    lines = [line for line in metrics(tmp_path / "runs" / "tiny", "pretrain") if "loss" in line]
    for line in lines:
        assert line["loss"] == pytest.approx(line["reconstruction"] + 0.01 * line["total-variation"], rel=1e-5)

    environment.pip("uninstall", "--quiet", "--yes", "diffusability-total-variation")
    assert "total-variation" not in environment.dfz("plugins", "regularizers")
    refused = environment.dfz("check", spec, code=2)
    assert "unknown regularizer 'total-variation'" in refused
    assert "stages.pretrain.regularizers.0.kind" in refused


def test_generated_packages_pass_their_own_tests_at_once(tmp_path, environment):
    """One of each kind: written, installed together by pip, tested by pytest, and imported by ``plugins --check``."""
    folders = [write_plugin(f"generated-{kind}", kind, tmp_path) for kind in KINDS]
    environment.install(*folders)
    tested = environment.run(
        "pytest", "-q", "--import-mode=importlib", *(folder / "tests" for folder in folders), cwd=tmp_path
    )
    assert "failed" not in tested
    assert int(tested.rsplit(" passed", 1)[0].split()[-1]) >= 2 * len(KINDS)
    listed = environment.dfz("plugins", "--check")
    for kind, (group, _) in KINDS.items():
        assert f"{group} of diffusability-generated-{kind} 0.1.0" in listed
    assert "broken" not in listed
    environment.pip("uninstall", "--quiet", "--yes", *(folder.name for folder in folders))


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("Total Variation", "regularizer", "words in lower case"),
        ("total_variation", "regularizer", "words in lower case"),
        ("2d", "regularizer", "words in lower case"),
        ("mine", "regulariser", "did you mean 'regularizer'"),
        ("kl", "regularizer", "there is a regularizer 'kl' of diffusability-regularizers"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path, name, kind, message):
    """Nothing is written, and the reason is said."""
    with pytest.raises(PluginError, match=message):
        write_plugin(name, kind, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_touched(tmp_path):
    """Writing the same package twice; and the long form of its name."""
    folder = write_plugin("diffusability-mine", "tracker", tmp_path)
    assert folder.name == "diffusability-mine"
    with pytest.raises(PluginError, match="exists; expected a new folder"):
        write_plugin("mine", "tracker", tmp_path)
