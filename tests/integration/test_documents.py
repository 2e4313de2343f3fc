"""The commands and the Python blocks of the documentation, as they are written there.

Each ``dfz`` command is parsed, and run where its files are here. The Python blocks of a page run one after the other.
Specs in YAML: tests/core/test_documented_specs.py.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from breaking_task import breaking
from documents import PAGES, ROOT, name_of, python_of, text_blocks
from PIL import Image
from quickstart_run import dfz_here
from tiny_runs import run_here, tiny_spec, write_spec

from diffusability.core import BuildContext, TrainingError
from diffusability.core.cli.app import app
from diffusability.core.data.specs.webdataset import WebDatasetSpec
from diffusability.core.planning.check import check
from diffusability.core.planning.plan import load_plan
from diffusability.core.scoring.named_autoencoders import named_autoencoders
from diffusability.core.scoring.scorecard_spec import ScoreOptions, scorecard_spec
from diffusability.core.specs.files.saved_format import AUTOENCODER_FORMAT

pytestmark = pytest.mark.integration


def documented():
    """Page and words of each command: lines of code blocks, and inline code that has more than a command's name."""
    pages = {}
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        blocks = "\n".join(re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.S | re.M))
        lines = [line.removeprefix("$ ") for line in blocks.splitlines() if re.match(r"(\$ )?(srun .*)?dfz ", line)]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
        lines += [" ".join(code.split()) for code in re.findall(r"`(dfz [^`]+)`", prose)]
        for command in (part for line in lines for part in line.split("#")[0].split("&&")):
            arguments = shlex.split(command[command.index("dfz ") :].replace("[", " ").replace("]", " "))[1:]
            if len(arguments) > 1:
                pages.setdefault(tuple(arguments), page.name)
    return [pytest.param(arguments, id=f"{page}: {' '.join(arguments)}"[:90]) for arguments, page in pages.items()]


def concrete(arguments):
    """Numbers for letters that stand for them, the first of alternatives, and no dots of repetition."""
    return [
        "2" if word == "N" else word.partition("|")[0].removesuffix("...") for word in arguments if word != "--debug"
    ]


def parsed(arguments):
    """The name of the command, and its arguments by name. Raises what ``dfz`` would say of a wrong command line."""
    group = typer.main.get_command(app)
    context = group.make_context("dfz", list(arguments))
    name, command, rest = group.resolve_command(context, list(arguments))
    return name, command.make_context(name, rest, parent=context).params


def options_of(name):
    command = typer.main.get_command(app).commands[name]
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("arguments", documented())
def test_every_documented_command_is_one(arguments):
    """Names of commands, options and their types; specs of this repository that it names exist."""
    if arguments[1].startswith("--"):  # no command but the name of an option
        assert arguments[1] in options_of(arguments[0])
        return
    _, params = parsed(concrete(arguments))
    for value in params.values():
        if isinstance(value, Path) and "".join(value.parts[:1]) in ("recipes", "examples") and "X" not in value.stem:
            assert (ROOT / value).exists(), value


#: Commands that need what the small run has not: classes, snapshots of averages, more variants, weights.
NOT_HERE = ("--class", "--sigma-rel", "correlate", "score", "--nproc", "--jobs", "--profile")


def runnable():
    return [
        command
        for command in documented()
        if not set(command.values[0]) & set(NOT_HERE) and _on_a_run(command.values[0])
    ]


def _on_a_run(arguments):
    if arguments[0] == "sample" and arguments[1].endswith(".yaml"):  # of weights that are not here
        return False
    return arguments[0] in ("report", "sample", "export", "show") or arguments[:2] == ("check", "SPEC")


@pytest.mark.parametrize("arguments", runnable())
def test_documented_commands_run(arguments, run, tmp_path):
    """On the finished run in place of the documented one, with the files that they write below a folder of the test."""
    (tmp_path / "table.yaml").write_text("columns: [{stage: measure, metric: psnr}]\n")
    after = {"--to": tmp_path / "written", "--table": tmp_path / "table.yaml"}
    names = {"RUN": run, "DIR": run, "SPEC": run / "spec.yaml", "STAGE": "finetune"}
    written = concrete(arguments)
    here = [
        str(after.get(before) or names.get(word) or (run if word.startswith("runs/") else word))
        for before, word in zip(("", *written), written, strict=False)
    ]
    if here[0] in ("sample", "export") and "--variant" not in here:
        here += ["--variant", "se"]
    if here[0] == "export" and "--stage" not in here:
        here += ["--stage", "finetune"]
    if here[0] == "sample":
        here += ["--num", "2", "--steps", "1"]
    assert dfz_here(*here)


def test_the_run_of_the_readme_is_scored(finished, tmp_path):
    """``dfz score runs/...``: the spec that it makes is whole and passes every check, files included."""
    options = ScoreOptions(data="sample-photos", num=4, resolution=32)
    path = tmp_path / "score.yaml"
    path.write_text(yaml.safe_dump(scorecard_spec(named_autoencoders([str(finished)]), options)))
    plan = load_plan(path)
    check(plan)
    assert list(plan.variants) == ["study-control", "study-se"]


def test_the_ten_cases_of_autoencoders_are_what_they_say(finished, tmp_path, monkeypatch):
    """Each command of the table that docs/autoencoders.md begins with, with stand-ins for its files: the kind that the
    autoencoder is taken for, and options of its own spec."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(finished)
    for name in ("my-vae", "their-model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"format": AUTOENCODER_FORMAT}))
    (tmp_path / "ae.safetensors").touch()
    text = (ROOT / "docs" / "autoencoders.md").read_text()
    table = text[text.index("| I have ... | I type ... |") : text.index("Each of them goes")]
    commands = re.findall(r"`(dfz score [^`]+)`", table)
    kinds = []
    for command in commands:
        _, params = parsed(shlex.split(command)[1:])
        assert params["data"]
        kinds.append({named.spec["kind"] for named in named_autoencoders(params["autoencoders"], params["trust_code"])})
    saved, diffusers = {"saved"}, {"diffusers"}
    names = [{name} for name in ("flux", "qwen-image", "python")]
    assert kinds == [saved, saved, diffusers, diffusers, *names, saved, {"wan"}, {"rae"}]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_shell_blocks_are_valid(page):
    """Bash's own parser, on each block of a page at once; brackets for what may be left out are taken away."""
    for line, text in text_blocks(page, "sh"):
        script = re.sub(r"\[[^\]]*--[^\]]*\]", "", text) if "[--" in text else text
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name_of(page)}:{line}: {done.stderr}"


def test_quoted_messages_are_messages():
    """What docs/troubleshooting.md puts in quotation marks, against the sources."""
    quoted = re.findall(r'\*\*"([^"]+)"', (ROOT / "docs/troubleshooting.md").read_text())
    sources = "".join(path.read_text() for path in ROOT.glob("packages/*/src/**/*.py"))
    assert quoted
    assert [message for message in quoted if message not in sources] == []


def scripts_named():
    """Page and words of each `python FILE ...` of this repository, in blocks and in the text."""
    pattern = r"\bpython ((?:benchmarks|recipes)/[\w/]+\.py)((?: (?:--)?[\w./-]+)*)"
    return [
        pytest.param(file, options.split(), id=f"{name_of(page)}: {file}{options}"[:90])
        for page in PAGES
        for file, options in re.findall(pattern, " ".join(page.read_text().split()))
    ]


@pytest.mark.parametrize(("file", "options"), scripts_named())
def test_documented_scripts_take_their_options(file, options):
    """The script exists, and its source names each option that a page gives it."""
    source = (ROOT / file).read_text()
    assert [word for word in options if word.startswith("--") and f'"{word}"' not in source] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_documented_sessions_exist(page):
    """Each session after `nox -s` against the functions of noxfile.py."""
    sessions = re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), re.M)
    for named in re.findall(r"\bnox -s ([\w ]+?)(?= +#|\n|`| --|$)", page.read_text()):
        assert set(named.split()) <= set(sessions), named


#: A script with arguments (below), and files of a package (tests/integration/test_plugin_packages.py).
OTHERWISE = ("docs/data.md", "docs/write-a-plugin.md")


def pages_of_python():
    return [pytest.param(page, id=name_of(page)) for page in PAGES if text_blocks(page, "python")]


@pytest.fixture
def workplace(finished, tmp_path, monkeypatch):
    """A folder with what the pages' Python blocks open: the quickstart's run, and one that broke."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "photos").mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        Image.effect_noise((64, 64), 50).convert("RGB").save(tmp_path / "photos" / f"{colour}-{number}.png")
    (tmp_path / "my_autoencoder.py").write_text(
        text_blocks(ROOT / "docs/tutorial.md", "python")[0][1] + "\n\nbuild = MyAutoencoder\n"
    )
    for name in ("quickstart", "my-vae", "my-run"):
        os.symlink(finished, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [param for param in pages_of_python() if param.id not in OTHERWISE])
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")
def test_python_blocks_run(page, workplace):
    """All blocks of a page in one namespace; errors have the page's line."""
    if name_of(page) == "docs/training.md":
        content = tiny_spec() | {"name": "x"}
        content["stages"]["pretrain"] |= {"max_skipped": 1, "preview": None, "ema": None, "steps": 2}
        spec = write_spec(workplace, content)
        with breaking("loss", [1]), pytest.raises(TrainingError):
            run_here(spec, workplace / "runs", until="pretrain")
        (workplace / "runs/x/spec.yaml").write_text(spec.read_text())
    for block in python_of(page):
        block.evaluate()


def test_the_documented_shards_are_packed(workplace, monkeypatch):
    """docs/data.md packs class folders into tar shards; the dataset ``webdataset`` reads them."""
    pytest.importorskip("webdataset")
    for name, size in (("n01", (300, 280)), ("n02", (20, 40))):
        (workplace / "train" / name).mkdir(parents=True)
        Image.new("RGB", size).save(workplace / "train" / name / "image.png")
    monkeypatch.setattr(sys, "argv", ["pack.py", "train", "shards"])
    (block,) = python_of(ROOT / "docs/data.md")
    block.evaluate()
    dataset = WebDatasetSpec(shards="shards-{000000..000000}.tar", label="cls", resolution=256).build(
        BuildContext(), "train"
    )
    assert len(dataset) == 2
    assert {dataset[index].label for index in range(2)} == {0, 1}


def lightened(content):
    """The tutorial's spec with one step of everything on a few small images."""
    less = {
        "steps": 1,
        "batch_size": 2,
        "num_samples": 8,
        "learning_rate": {},
        "sampler": {"kind": "euler", "steps": 1},
    }
    content["data"] |= {"resolution": 32, "size": 16, "validation_size": 8}
    for stage in content["stages"].values():
        for settings in (stage, *stage.get("evaluators", [])):
            settings.update({key: value for key, value in less.items() if key in settings})
    return content


def test_the_tutorial_runs(tmp_path, monkeypatch):
    """docs/tutorial.md from its first file to its last command, with less of everything; the seeds are only checked."""
    page = ROOT / "docs/tutorial.md"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_autoencoder.py").write_text(text_blocks(page, "python")[0][1])
    (spec,) = [text for _, text in text_blocks(page, "yaml") if text.startswith("name: my-run")]
    (tmp_path / "my-run.yaml").write_text(yaml.safe_dump(lightened(yaml.safe_load(spec)), sort_keys=False))
    lines = [line for _, text in text_blocks(page, "sh") for line in text.splitlines()]
    assert len(lines) == 8
    for line in lines:
        arguments = shlex.split(line.replace("--num 64", "--num 4").replace("--num 16", "--num 2"))
        dfz_here(*(["check", *arguments[2:]] if "seeds" in line else arguments[1:]))
    assert {"before.html", "samples", "my-autoencoder-se"} <= {path.name for path in tmp_path.iterdir()}
