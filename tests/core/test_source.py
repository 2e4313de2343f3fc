import pytest

from diffusability.core.errors import SpecError
from diffusability.core.specs.source import parse_source, read_source


def test_every_value_has_its_place():
    """Marks against line and column counted by hand."""
    source = parse_source("name: a\nstages:\n  one: {kind: train, steps: 5}\n  two:\n    list:\n      - x\n", "s.yaml")
    assert source.locate(("stages", "one", "steps")) == "s.yaml:3:22"
    assert source.locate(("stages", "two", "list", 0)) == "s.yaml:6:9"
    assert source.locate(("stages", "two", "absent", "deeper")) == "s.yaml:4:3"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("1.0E+3", 1000.0),
        (".5", 0.5),
        ("-3", -3),
        ("1_000", 1000),
        ("010", 10),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("~", None),
        ("'1'", "1"),
        (".nan", "nan"),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    """YAML 1.2's core schema: PyYAML alone reads 1e-6 as a word, `no` as False and 12:30:45 as a number."""
    read = parse_source(f"key: {text}", "s.yaml").data["key"]
    assert str(read) == "nan" if value == "nan" else (read == value and type(read) is type(value))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1, 2", "not valid YAML"),
        ("a: 1\na: 2", "s.yaml:2:1"),
        ("a: 1\n\tb: 2", "s.yaml:2:1"),
        ("a: !!python/object:os.system x", "not valid YAML"),
        ("{[1, 2]: 3}", "a key must be a word"),
        ("a: &x [*x]", "contains itself"),
        ("--- 1\n--- 2", "not valid YAML"),
    ],
)
def test_bad_yaml_is_reported_with_its_place(text, words):
    """Each malformed text against the words that a user needs."""
    with pytest.raises(SpecError) as caught:
        parse_source(text, "s.yaml")
    assert words in str(caught.value)
    assert "s.yaml" in str(caught.value)


def test_merge_keys_are_resolved_and_own_keys_win():
    """YAML's merge keys against the mapping written out."""
    source = parse_source("base: &b {x: 1, y: 2}\nchild: {<<: *b, y: 3}", "s.yaml")
    assert source.data["child"] == {"x": 1, "y": 3}


@pytest.mark.parametrize("content", [b"- 1\n- 2\n", b"", b"\xff\xfe\x00", b"just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    """Lists, nothing, binary and plain text against one clear error."""
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError):
        read_source(path)


def test_missing_file_and_folder_are_named(tmp_path):
    """The path is in the message."""
    with pytest.raises(SpecError, match=r"absent\.yaml"):
        read_source(tmp_path / "absent.yaml")
    with pytest.raises(SpecError, match="is a folder"):
        read_source(tmp_path)
