from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from diffusability.core.errors import SpecError
from diffusability.core.planning.source import as_yaml, parse_source, read_source


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
        ("0o17", 15),
        ("0x1F", 31),
        (r'"\uD83D\uDE00"', "\N{GRINNING FACE}"),
        (".nan", "nan"),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    """YAML 1.2's core schema: PyYAML alone reads 1e-6 as a word, `no` as False and 12:30:45 as a number."""
    read = parse_source(f"key: {text}", "s.yaml").data["key"]
    assert str(read) == "nan" if value == "nan" else (read == value and type(read) is type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "not valid YAML"),
        ("a: 1\na: 2", "s.yaml:2:1"),
        ("a: 1\n\tb: 2", "s.yaml:2:1"),
        ("a: !!python/object:os.system x", "not valid YAML"),
        ("{[1, 2]: 3}", "a key must be a word"),
        ("a: &x [*x]", "contains itself"),
        ("--- 1\n--- 2", "not valid YAML"),
        ("a: 1\nb: x\x00y", "control character U+0000 (s.yaml:2:5)"),
        ("a: 1\nb: x\x1by", "control character U+001B (s.yaml:2:5)"),
        ("name: \xe2\x80\x9cmine\xe2\x80\x9d", "encoded as UTF-8 twice"),
        (r'a: "\uD83D"', "half of a surrogate pair"),
        ("a: !!int word", "'word' is not a valid int"),
        ("a: !!float word", "'word' is not a valid float"),
        ("a: !!bool word", "'word' is not a valid bool"),
        ("a: !!timestamp word", "'word' is not a valid timestamp"),
        ("a: !!binary é", "not valid YAML"),
        ("a: " + "9" * 5000, "is not a valid int"),
        ("a: " + "[" * 600, "nested too deeply"),
        ("a: &x {<<: *x}", "contains itself"),
        ("a: {<<: word}", "'<<' merges a mapping"),
        ("a: {<<: [1]}", "'<<' merges a mapping"),
        ("a: &x {b: 1}\nc: {<<: *x, b: 2, b: 3}", "key 'b' is given twice (s.yaml:2:19)"),
        (
            "a: &a [0,0,0,0,0,0,0,0,0,0]\n"
            + "".join(f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in pairwise("abcdefgh")),
            "aliases make this file hold more than",
        ),
    ],
)
def test_bad_yaml_is_reported_with_its_place(text, message):
    """Each malformed text against the words that a user needs."""
    with pytest.raises(SpecError) as caught:
        parse_source(text, "s.yaml")
    assert message in str(caught.value)
    assert "s.yaml" in str(caught.value)


def test_merge_keys_are_resolved_and_own_keys_win():
    """YAML's merge keys against the mapping written out."""
    source = parse_source("base: &b {x: 1, y: 2}\nchild: {<<: *b, y: 3}", "s.yaml")
    assert source.data["child"] == {"x": 1, "y": 3}


MERGES = [
    (
        "base: &b {kind: x, size: 64}\ndata: &s {<<: *b, size: 32}\nthen: {data: *s}",
        "then",
        {"data": {"kind": "x", "size": 32}},
    ),
    (
        "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: &c {<<: [*a, *b]}\nd: [*c, {<<: *c, x: 9}]",
        "d",
        [{"x": 1, "y": 2}, {"x": 9, "y": 2}],
    ),
    ("a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: &c {<<: *b, x: 3}\nd: {<<: [*c, *b], y: 0}", "d", {"x": 3, "y": 0}),
    ("a: &a {x: {deep: [1, 2]}}\nb: &b\n  x: 5\n  <<: *a\nc: *b", "c", {"x": 5}),
    ("a: &a {x: 1}\nl: &l [&m {<<: *a, x: 2}, *m, *a]\nk: *l", "k", [{"x": 2}, {"x": 2}, {"x": 1}]),
]


@pytest.mark.parametrize(("text", "key", "value"), MERGES)
def test_a_mapping_with_merge_keys_may_be_used_again(text, key, value):
    """Aliases of mappings that merge and override, against the mappings written out by YAML's rules for ``<<``."""
    assert parse_source(text, "s.yaml").data[key] == value


def test_a_spec_saved_as_utf_16_is_read(tmp_path):
    """YAML allows UTF-16 with a byte order mark, which some editors write."""
    path = tmp_path / "s.yaml"
    path.write_bytes("name: é".encode("utf-16"))
    assert read_source(path).data == {"name": "é"}


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


#: Texts that some reader of YAML takes for a number, among them digests, and whatever hypothesis thinks of.
AMBIGUOUS = st.from_regex(r"\A[0-9]{1,3}[eE][-+]?[0-9]{1,5}\Z") | st.sampled_from(
    ["0o17", "0x1F", "no", "~", "1_0", "="]
)


@given(AMBIGUOUS | st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])))
def test_written_texts_are_read_as_texts(text):
    """Digests such as 6e865495, which YAML 1.2 reads as a number; by our reader and by PyYAML's."""
    written = as_yaml({"values": [text], "mapping": {f"x{text}": text}})
    expected = {"values": [text], "mapping": {f"x{text}": text}}
    assert yaml.safe_load(written) == expected
    assert parse_source(written, "written").data == expected


@given(st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.booleans() | st.none())
def test_written_values_are_read_as_themselves(value):
    """Numbers, truth values and nothing."""
    read = parse_source(as_yaml({"key": value}), "written").data["key"]
    assert read == value
    assert type(read) is type(value)
