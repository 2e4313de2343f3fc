import pytest

from diffusability.core.errors import SpecError
from diffusability.core.specs.overlay import overlay, override
from diffusability.core.specs.source import parse_source

BASE = """
stages:
  fine:
    steps: 5
    objective: {kind: a, lr: 1, deep: {x: 1}}
    regularizers: [{kind: kl, weight: 1}, {kind: se}]
"""


def base():
    return parse_source(BASE, "base.yaml")


def changed(text):
    return overlay(base(), parse_source(text, "variant.yaml"))


def test_dotted_paths_replace_lists_and_scalars():
    """The result against the mapping written out; the base is untouched."""
    original = base()
    result = overlay(original, parse_source("{stages.fine.regularizers: [], stages.fine.steps: 9}", "v"))
    assert result.data["stages"]["fine"]["regularizers"] == []
    assert result.data["stages"]["fine"]["steps"] == 9
    assert original.data["stages"]["fine"]["steps"] == 5


def test_mappings_merge_unless_the_kind_changes():
    """Same kind: merged key by key. Another kind: replaced whole."""
    merged = changed("stages: {fine: {objective: {deep: {y: 2}}}}").data["stages"]["fine"]["objective"]
    assert merged == {"kind": "a", "lr": 1, "deep": {"x": 1, "y": 2}}
    replaced = changed("stages.fine.objective: {kind: b}").data["stages"]["fine"]["objective"]
    assert replaced == {"kind": "b"}


def test_an_added_stage_comes_before_the_one_that_follows_it():
    """Two stages before a known one, one after all; the order of known stages stays."""
    two = "stages: {fine: {steps: 1}, measure: {steps: 2}}"
    changes = "stages: {measure: {steps: 3}, pre: {steps: 4}, encode: {steps: 5}, fine: {steps: 6}, last: {steps: 7}}"
    result = overlay(parse_source(two, "base"), parse_source(changes, "v")).data["stages"]
    assert [(name, stage["steps"]) for name, stage in result.items()] == [
        ("pre", 4),
        ("encode", 5),
        ("fine", 6),
        ("measure", 3),
        ("last", 7),
    ]


def test_list_items_are_reached_by_index():
    """A weight inside a list, changed in place."""
    result = override(base(), "stages.fine.regularizers.0.weight=1e-3")
    assert result.data["stages"]["fine"]["regularizers"][0] == {"kind": "kl", "weight": 1e-3}


def test_places_follow_what_was_laid_over():
    """An error in a variant must point into the variant, not at what it replaced."""
    result = changed("stages.fine.regularizers: [{kind: typo}]")
    assert result.locate(("stages", "fine", "regularizers", 0, "kind")).startswith("variant.yaml:1")
    assert result.locate(("stages", "fine", "steps")).startswith("base.yaml:4")


def test_intermediate_mappings_are_made():
    """A key below one that the spec leaves at its default."""
    assert override(base(), "stages.fine.optimizer.lr=0.1").data["stages"]["fine"]["optimizer"] == {"lr": 0.1}


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("stages.fin.steps=3", "did you mean 'fine'"),
        ("stages.fine.steps.x=3", "which has no key 'x'"),
        ("stages.fine.regularizers.7.weight=3", "list of 2"),
        ("stages.fine.regularizers.x.weight=3", "list of 2"),
        ("stages.fine.steps", "not of the form"),
        ("=3", "not of the form"),
        ("a=[1", "not valid YAML"),
    ],
)
def test_impossible_changes_are_refused(assignment, words):
    """Each against the words that a user needs."""
    with pytest.raises(SpecError) as caught:
        override(base(), assignment)
    assert words in str(caught.value)
