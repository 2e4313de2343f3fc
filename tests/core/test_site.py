"""The documentation site: its pages cover what is installed, and it builds without a warning and without a network."""

import os
import re
import runpy
import subprocess
import sys

import pytest
import typer
import yaml
from documents import ROOT

import diffusability.core
from diffusability.core.cli.app import app
from diffusability.core.plugins import registry
from diffusability.core.specs.components import SPEC_BASES

pytest.importorskip("mkdocs")


def hook(name):
    """The names of a script of docs/hooks."""
    return runpy.run_path(str(ROOT / f"docs/hooks/{name}.py"))


def test_every_command_and_option_has_a_line():
    """The generated page against typer's own commands."""
    page = hook("command_reference")["page"]()
    for name, command in typer.main.get_command(app).commands.items():
        section = page.partition(f"## dfz {name}\n")[2].partition("\n## ")[0]
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        assert section
        assert [option for option in options if option != "--help" and f"`{option}" not in section] == []


def test_every_kind_and_field_has_a_line():
    """The generated pages against the fields of the installed spec classes."""
    pages = dict(hook("spec_reference")["Reference"]().pages())
    for plugin in registry.installed():
        spec = registry.load(plugin.group, plugin.kind, SPEC_BASES[plugin.group])
        section = pages[plugin.group].partition(f"## {plugin.kind}\n")[2].partition("\n## ")[0]
        assert section, plugin
        assert [name for name in spec.model_fields if name != "kind" and f"| `{name}` |" not in section] == []


def test_every_metric_with_a_meaning_is_in_the_glossary():
    """The generated page against what evaluators declare."""
    page = hook("glossary")["page"]()
    for kind in registry.kinds("evaluators"):
        for name, info in registry.load("evaluators", kind, SPEC_BASES["evaluators"]).metrics.items():
            assert not info.meaning or f"| `{name}` | {info.label} |" in page


def test_every_exported_name_is_in_the_api():
    """``dir(diffusability.core)`` against the first page of the reference."""
    page = hook("api_reference")["index"]()
    assert [name for name in dir(diffusability.core) if not name.startswith("_") and f"`{name}`" not in page] == []


def test_the_site_builds(tmp_path):
    """``mkdocs build --strict``: no warning, no dead link, no page outside the navigation; nothing from elsewhere."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "JAXTYPING_DISABLE": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING" not in done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 50
    loaded = re.compile(r"<(?:script|img|iframe)[^>]+src=\"https?:|<link[^>]+rel=\"stylesheet\"[^>]+href=\"https?:")
    assert [page.name for page in pages if loaded.search(page.read_text())] == []


def test_the_citation_names_this_version():
    """CITATION.cff against the distribution."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    declared = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert citation["version"] == declared[1]
    assert citation["license"] == "Apache-2.0"
