import sys

import pytest

from diffusability.core.cli.plugins_command import show_plugins
from diffusability.core.errors import PluginError
from diffusability.core.plugins import registry
from diffusability.core.plugins.registry import Plugin
from diffusability.core.plugins.summaries import summary
from diffusability.core.specs.components import SPEC_BASES


def plugin(module, attribute="Spec"):
    return Plugin("regularizers", "x", module, attribute, "somebody", "1.0")


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_every_builtin_kind_has_the_summary_of_its_docstring():
    """What is read from the source against the docstring of the class that is imported."""
    for entry in registry.installed():
        spec_class = registry.load(entry.group, entry.kind, SPEC_BASES[entry.group])
        assert summary(entry) == (spec_class.__doc__ or "").strip().splitlines()[0], entry


def test_summaries_are_read_without_importing(path):
    """A module and a package that would fail when imported."""
    code = 'raise RuntimeError\nclass Spec:\n    """What it does.\n\n    More.\n    """\n'
    (path / "dfz_single.py").write_text(code)
    (path / "dfz_package" / "inner").mkdir(parents=True)
    (path / "dfz_package" / "__init__.py").write_text("raise RuntimeError")
    (path / "dfz_package" / "inner" / "spec.py").write_text(code)
    assert summary(plugin("dfz_single")) == "What it does."
    assert summary(plugin("dfz_package.inner.spec")) == "What it does."
    assert not [name for name in sys.modules if name.startswith("dfz_")]


def test_a_class_that_is_passed_on_is_followed(path):
    """Absolute and relative imports, under another name, from a package's front."""
    (path / "dfz_front").mkdir()
    (path / "dfz_front" / "__init__.py").write_text(
        "from .specs import Inner as Spec\nfrom dfz_front.specs import Inner"
    )
    (path / "dfz_front" / "specs.py").write_text('class Inner:\n    """Deep inside."""\n')
    assert summary(plugin("dfz_front")) == "Deep inside."
    assert summary(plugin("dfz_front", "Inner")) == "Deep inside."


@pytest.mark.parametrize("code", ["class Spec: pass", "Spec = 5", "syntax error here", "", "from nowhere import Spec"])
def test_what_has_no_summary_is_empty(path, code):
    """No docstring, no class, no source."""
    (path / "dfz_none.py").write_text(code)
    assert summary(plugin("dfz_none")) == ""
    assert summary(plugin("dfz_absent.spec")) == ""


def test_the_broken_are_listed_among_the_others(path, capsys):
    """A plugin whose module cannot be imported: listed without a check, marked and named with one."""
    (path / "dfz_broken.py").write_text('import nowhere\nclass Spec:\n    """Never seen."""\n')
    info = path / "dfz_broken-1.2.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[diffusability.regularizers]\nbroken-kind = dfz_broken:Spec\n")
    registry.refresh()
    try:
        show_plugins("regularizers", check_imports=False)
        shown = capsys.readouterr().out
        assert "regularizers of dfz-broken 1.2" in shown
        assert "Never seen." in shown
        with pytest.raises(PluginError, match=r"'broken-kind' of dfz-broken 1\.2 cannot be imported"):
            show_plugins("regularizers", check_imports=True)
        lines = capsys.readouterr().out.splitlines()
        assert any(line.split()[:2] == ["broken-kind", "broken"] for line in lines)
        assert any(line.split()[:2] == ["kl", "ok"] for line in lines)
    finally:
        registry.refresh()
