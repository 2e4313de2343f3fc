import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def dfz(*arguments, cwd=ROOT):
    result = subprocess.run(
        [sys.executable, "-m", "diffusability.core.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    return result.returncode, result.stdout, result.stderr


def test_check_prints_the_plan_and_writes_nothing(tmp_path):
    """Every stage of the quickstart by name, its parameters, and an untouched folder."""
    code, output, _ = dfz("check", ROOT / "examples" / "quickstart.yaml", cwd=tmp_path)
    assert code == 0
    for word in ("pretrain", "control, se", "scale-equivariance", "4.17M", "to do", "11 stages for 2 variants"):
        assert word in output
    assert list(tmp_path.iterdir()) == []


def test_check_of_a_run_on_another_machine(tmp_path):
    """A folder that is missing here: an error, unless files are left out; the plan and the whole spec are printed."""
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "name: far\ndata: {kind: image-folder, path: /absent}\nstages:\n  measure:\n    kind: evaluate\n"
        "    autoencoder: {kind: flux}\n    evaluators: [{kind: psnr}]\n"
    )
    code, _, error = dfz("check", spec)
    assert (code, "'/absent' does not exist" in error) == (2, True)
    code, output, _ = dfz("check", spec, "--no-files")
    assert (code, "measure" in output) == (0, True)
    code, output, _ = dfz("check", spec, "--no-files", "--resolved")
    assert (code, "path: /absent" in output) == (0, True)


def test_plugins_lists_kinds_with_their_distribution():
    """One of each package; --check imports all of them."""
    code, output, _ = dfz("plugins", "--check")
    assert code == 0
    for word in ("dit", "diffusability-models", "kl", "diffusability-regularizers", "psnr", "diffusability-eval"):
        assert word in output
    assert "broken" not in output


def test_schema_goes_to_a_file(tmp_path):
    """With --to; without, to standard output: the same."""
    code, _, _ = dfz("schema", "--to", tmp_path / "schema.json")
    assert code == 0
    assert (tmp_path / "schema.json").read_text() == dfz("schema")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "absent.yaml"),
        ("plugins", "regularizer"),
        ("run",),
        ("run", "examples/quickstart.yaml", "--variant", "x"),
        ("run", "examples/quickstart.yaml", "--until", "x"),
        ("run", "examples/quickstart.yaml", "--set", "x"),
        ("report", "examples"),
        ("no-such-command",),
    ],
)
def test_wrong_command_lines_exit_with_2(arguments):
    """No traceback, and something said."""
    code, _, errors = dfz(*arguments)
    assert code == 2
    assert errors
    assert "Traceback" not in errors
