import sys

import pytest

from diffusability.core.errors import PluginError
from diffusability.core.plugins import contract_checks, registry
from diffusability.core.specs.components import SPEC_BASES, RegularizerSpec

GOOD = """
from typing import Literal
from diffusability.core import RegularizerSpec
class Spec(RegularizerSpec):
    kind: Literal["{kind}"] = "{kind}"
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts distributions of one module each on the path, as pip would: the module and its metadata."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(distribution, entry_points, code=GOOD, group="regularizers"):
        module = distribution.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.2.dist-info"
        info.mkdir()
        lines = "".join(f"{kind} = {module}:{name}\n" for kind, name in entry_points.items())
        (info / "entry_points.txt").write_text(f"[diffusability.{group}]\n{lines}")
        registry.refresh()
        return module

    yield add
    registry.refresh()
    for name in [name for name in sys.modules if name.startswith("dfz_")]:
        del sys.modules[name]


def test_builtin_kinds_come_through_entry_points():
    """The kinds that the project's own metadata declares, by the same path as any other."""
    assert {"kl", "scale-equivariance"} <= set(registry.kinds("regularizers"))
    assert registry.find("regularizers", "kl").distribution == "diffusability-regularizers"
    assert registry.load("regularizers", "kl", RegularizerSpec).model_fields["kind"].default == "kl"


def test_a_plugin_is_imported_only_when_used(installed):
    """Listing must not import; loading must."""
    module = installed("dfz-lazy", {"lazy": "Spec"}, GOOD.format(kind="lazy"))
    assert "lazy" in registry.kinds("regularizers")
    assert module not in sys.modules
    registry.load("regularizers", "lazy", RegularizerSpec)
    assert module in sys.modules


def test_an_unknown_kind_names_the_nearest():
    """A typo against the installed names."""
    with pytest.raises(PluginError, match="'scale-equivarience'; did you mean 'scale-equivariance'"):
        registry.load("regularizers", "scale-equivarience")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import a_module_that_is_absent", "ModuleNotFoundError"),
        ("raise RuntimeError('broken on purpose')", "broken on purpose"),
        ("import sys; sys.exit(3)", "SystemExit"),
        ("syntax error here", "SyntaxError"),
        ("Other = 1", "has no attribute 'Spec'"),
        ("Spec = 5", "is not a RegularizerSpec subclass"),
        ("class Spec: pass", "is not a RegularizerSpec subclass"),
        ("from diffusability.core import EvaluatorSpec as Spec", "is not a RegularizerSpec subclass"),
        (GOOD.format(kind="another"), "must declare kind: Literal['bad']"),
    ],
)
def test_a_broken_plugin_is_named_and_breaks_nothing_else(installed, code, message):
    """Each way to be broken: the error names kind and distribution, and the others still load."""
    installed("dfz-bad", {"bad": "Spec"}, code)
    with pytest.raises(PluginError) as caught:
        registry.load("regularizers", "bad", RegularizerSpec)
    assert message in str(caught.value)
    assert "dfz-bad 1.2" in str(caught.value)
    assert registry.load("regularizers", "kl", RegularizerSpec)
    broken = contract_checks.failures(registry.installed(), dict(SPEC_BASES))
    assert [plugin.distribution for plugin in broken] == ["dfz-bad"]


def test_duplicates_name_both_distributions(installed):
    """Two packages with one kind: neither wins silently."""
    installed("dfz-one", {"twice": "Spec"}, GOOD.format(kind="twice"))
    installed("dfz-two", {"twice": "Spec"}, GOOD.format(kind="twice"))
    with pytest.raises(PluginError, match="more than once") as caught:
        registry.load("regularizers", "twice", RegularizerSpec)
    assert "dfz-one" in str(caught.value)
    assert "dfz-two" in str(caught.value)
    assert registry.load("regularizers", "kl", RegularizerSpec)


def test_an_unknown_group_is_refused():
    """A group's name is checked too."""
    with pytest.raises(PluginError, match="did you mean 'regularizers'"):
        registry.installed("regularizer")


def test_malformed_metadata_is_an_error_not_a_crash(installed, tmp_path):
    """An entry_points.txt that no installer would write."""
    installed("dfz-metadata", {"x": "Spec"}, GOOD.format(kind="x"))
    (tmp_path / "dfz_metadata-1.2.dist-info" / "entry_points.txt").write_text("nonsense")
    registry.refresh()
    with pytest.raises(PluginError, match="malformed"):
        registry.installed()
