"""What several integration tests share: one finished run that is shaped like the quickstart."""

import shutil
from pathlib import Path

import pytest
from empty_figures import figures
from quickstart_run import shaped_like_the_quickstart
from tiny_runs import run_here, write_spec


@pytest.fixture(scope="module", autouse=True)
def empty_figures():
    """No test of these looks at what figures show, but for those that draw them by themselves."""
    with figures(drawn=False):
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of the run; not to be changed."""
    folder = tmp_path_factory.mktemp("commands")
    with figures(drawn=True):
        _, run = run_here(write_spec(folder, shaped_like_the_quickstart()), folder / "runs")
    shutil.copyfile(folder / "spec.yaml", run.root / "spec.yaml")
    return run.root


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "runs" / "study"))
