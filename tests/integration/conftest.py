"""What several integration tests share: one finished run that is shaped like the quickstart."""

import shutil
from pathlib import Path

import pytest
from quickstart_run import shaped_like_the_quickstart
from tiny_runs import run_here, write_spec


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of the run; not to be changed."""
    folder = tmp_path_factory.mktemp("commands")
    _, run = run_here(write_spec(folder, shaped_like_the_quickstart()), folder / "runs")
    shutil.copyfile(folder / "spec.yaml", run.root / "spec.yaml")
    return run.root


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "runs" / "study"))
