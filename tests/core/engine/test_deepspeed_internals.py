import importlib
import inspect
import re
from pathlib import Path

import pytest

from diffusability.core.engine.deepspeed_internals import USED

SOURCES = Path(__file__).parents[3] / "packages"
NAMES = [(owner, name) for owner, names in USED.items() for name in names]


@pytest.mark.parametrize(("owner", "name"), NAMES)
def test_the_installed_deepspeed_has_what_is_used_of_it(owner, name):
    """A method or member of the class, or an attribute that the source of the owner or of its bases sets."""
    module, _, class_name = owner.partition(":")
    holder = importlib.import_module(module)
    if not class_name:
        assert hasattr(holder, name) or re.search(rf"(\.|def ){re.escape(name)}\b|\b{name}\s*[:=]", source_of(holder))
        return
    holder = getattr(holder, class_name)
    sets = re.compile(rf"self\.{re.escape(name)}\b[^=\n]*=[^=]")
    assert hasattr(holder, name) or any(sets.search(source_of(base)) for base in holder.__mro__[:-1])


def source_of(holder):
    try:
        return inspect.getsource(holder)
    except (OSError, TypeError):
        return ""


def test_one_file_alone_reaches_into_deepspeed():
    """The attributes that carry an underscore, or that ZeRO puts on parameters, are named nowhere else."""
    private = {name for _, name in NAMES if name.startswith(("_", "ds_")) and not name.startswith("__")}
    pattern = re.compile(rf"\.({'|'.join(sorted(private))})\b")
    files = [path for path in SOURCES.rglob("src/**/*.py") if path.name != "deepspeed_internals.py"]
    assert len(files) > 100
    assert [path.name for path in files if pattern.search(path.read_text())] == []
