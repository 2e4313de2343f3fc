"""The files that GitHub and pre-commit read, against noxfile.py and the packages' declarations."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
NOXFILE = ast.parse((ROOT / "noxfile.py").read_text())


def sessions():
    """The names of nox's sessions."""
    return {
        node.name
        for node in NOXFILE.body
        if isinstance(node, ast.FunctionDef) and any("session" in ast.unparse(part) for part in node.decorator_list)
    }


def constant(name):
    """The value of a name that noxfile.py assigns."""
    (value,) = (
        node.value for node in NOXFILE.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )
    return ast.literal_eval(value)


def steps(workflow, job):
    return yaml.safe_load(workflow.read_text())["jobs"][job]["steps"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_session_that_a_workflow_runs_exists(workflow):
    """Names after ``nox -s``, those of a matrix included."""
    content = yaml.safe_load(workflow.read_text())
    named = set()
    for job in content["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for step in job["steps"]:
            for name in re.findall(r"nox -s (\S.*)", step.get("run", "")):
                named |= set(matrix["session"]) if "matrix" in name else set(name.split())
    assert named
    assert named <= sessions()


def test_the_tests_run_on_every_python_that_is_declared():
    """From the lowest that ``requires-python`` allows, without a gap."""
    matrix = yaml.safe_load((ROOT / ".github/workflows/checks.yml").read_text())["jobs"]["tests"]["strategy"]["matrix"]
    declared = tomllib.loads((ROOT / "packages/core/pyproject.toml").read_text())["project"]["requires-python"]
    minors = [int(version.removeprefix("3.")) for version in matrix["python"]]
    assert f">=3.{minors[0]}" == declared
    assert minors == list(range(minors[0], minors[-1] + 1))


def test_a_release_publishes_what_others_depend_on_first():
    """Every distribution once, each after those that it requires."""
    names = [
        step["with"]["packages-dir"].removeprefix("dist/").replace("_", "-")
        for step in steps(ROOT / ".github/workflows/release.yml", "publish")
        if "publish" in step.get("uses", "")
    ]
    projects = [ROOT / "pyproject.toml", *(ROOT / "packages").glob("*/pyproject.toml")]
    tables = [tomllib.loads(path.read_text())["project"] for path in projects]
    assert sorted(names) == sorted(table["name"] for table in tables)
    for table in tables:
        for requirement in table["dependencies"]:
            needed = re.split(r"[\[<>=~!; ]", requirement)[0]
            assert needed not in names or names.index(needed) < names.index(table["name"])


def test_pre_commit_runs_the_linter_of_the_lint_session():
    """The same version, so that both agree."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (revision,) = (entry["rev"] for entry in hooks if "ruff" in entry["repo"])
    assert (f"ruff=={revision.removeprefix('v')}",) == constant("LINTER")


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_issue_forms_have_what_github_asks_for(name):
    """A name, a description, and in each part a type, a label, and an id of its own."""
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE" / name).read_text())
    assert form["name"]
    assert form["description"]
    assert all(part["type"] in {"textarea", "input", "checkboxes"} for part in form["body"])
    assert all(part["attributes"]["label"] for part in form["body"])
    assert len({part["id"] for part in form["body"]}) == len(form["body"])


def test_sessions_that_contributing_names_exist():
    """Every ``nox -s`` line of CONTRIBUTING.md."""
    named = re.findall(r"nox -s ([a-z ]+?)(?:  |`|$| --)", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    assert named
    assert {name for line in named for name in line.split()} <= sessions()
