"""Each ``dfz`` command of the README and of docs, as it is written there: parsed, and run where its files are here."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from quickstart_run import dfz_here

from diffusability.core.cli.app import app
from diffusability.core.planning.check import check
from diffusability.core.planning.plan import load_plan
from diffusability.core.scoring.named_autoencoders import named_autoencoders
from diffusability.core.scoring.scorecard_spec import ScoreOptions, scorecard_spec
from diffusability.core.specs.files.saved_format import AUTOENCODER_FORMAT

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "recipes" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def documented():
    """Page and words of each command: lines of code blocks, and inline code that has more than a command's name."""
    pages = {}
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        blocks = "\n".join(re.findall(r"^```(?:sh|console|bash)?\n(.*?)^```", text, re.S | re.M))
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
