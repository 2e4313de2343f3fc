import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from minimums import lowest, pins  # noqa: E402 - of the repository's root

PROJECTS = sorted(ROOT.glob("packages/*/pyproject.toml"))


def test_every_pin_is_the_lowest_version_that_is_allowed():
    """Against packaging's own reading of the requirements: the pin is allowed, and nothing below it."""
    pinned = dict(pin.split("==") for pin in pins(PROJECTS))
    text = "".join(path.read_text() for path in PROJECTS)
    lines = [line.strip(' ",') for line in text.splitlines() if ">=" in line and "requires" not in line]
    for line in lines:
        for requirement in (part.strip(' "[]') for part in line.partition("= [")[2].split('", "') or [line]):
            parsed = Requirement(requirement or line)
            if parsed.name.startswith("diffusability") or parsed.name.lower() not in pinned:
                continue
            bound = min(Version(s.version) for s in parsed.specifier if s.operator == ">=")
            assert Version(pinned[parsed.name.lower()]) >= bound
    assert pinned["pillow"] == "10.1"  # has_transparency_data


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [("a>=1.2", ("a", "1.2")), ("A_b[x]>=1,<2", ("a-b", "1")), ("a==3; python_version>'3'", ("a", "3"))],
)
def test_the_lowest_version_of_a_requirement(requirement, expected):
    """Bounds, extras and markers."""
    assert lowest(requirement) == expected


def test_a_requirement_without_a_lowest_version_is_refused():
    """A minimum that is not declared cannot be tested."""
    with pytest.raises(ValueError, match="names no lowest version"):
        lowest("a<3")


def test_extras_of_their_own_session_have_no_pins(tmp_path):
    """What does not install beside the lowest versions of the others."""
    project = tmp_path / "pyproject.toml"
    extras = '[project.optional-dependencies]\nmlflow = ["b>=2"]\nc = ["d>=3"]\n'
    project.write_text('[project]\ndependencies = ["a>=1"]\n' + extras)
    assert pins([project]) == ["a==1", "d==3"]
