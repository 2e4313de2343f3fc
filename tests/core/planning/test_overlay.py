import pytest

from diffusability.core.errors import SpecError
from diffusability.core.planning.overlay import overlay, override
from diffusability.core.planning.source import parse_source

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


@pytest.mark.parametrize("text", ["stages.fine: null", "stages: {fine: null}"])
def test_null_takes_a_stage_out(text):
    """By a dotted path and inside a mapping; the others and their order stay."""
    two = parse_source(BASE + "  other: {steps: 1}\n", "base.yaml")
    result = overlay(two, parse_source(text, "v"))
    assert list(result.data["stages"]) == ["other"]
    assert not any(path[:2] == ("stages", "fine") for path in result.marks)
    assert list(two.data["stages"]) == ["fine", "other"]


def test_one_stage_in_place_of_another():
    """Taken out and put in by one mapping, before the stage that follows both."""
    two = parse_source(BASE + "  other: {steps: 1}\n", "base.yaml")
    result = overlay(two, parse_source("stages: {new: {steps: 2}, fine: null, other: {steps: 3}}", "v"))
    assert list(result.data["stages"].items()) == [("new", {"steps": 2}), ("other", {"steps": 3})]


def test_only_stages_are_taken_out_by_null():
    """Below a stage, null is a value like any other."""
    assert changed("stages.fine.objective: null").data["stages"]["fine"]["objective"] is None


@pytest.mark.parametrize("text", ["stages.fone: null", "stages: {fone: null}"])
def test_a_stage_that_is_not_there_cannot_be_taken_out(text):
    with pytest.raises(SpecError, match=r"there is no stage 'fone' to take out.*did you mean 'fine'"):
        changed(text)


def test_intermediate_mappings_are_made():
    """A key below one that the spec leaves at its default."""
    assert override(base(), "stages.fine.optimizer.lr=0.1").data["stages"]["fine"]["optimizer"] == {"lr": 0.1}


@pytest.mark.parametrize(
    ("assignment", "message"),
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
def test_impossible_changes_are_refused(assignment, message):
    """Each against the words that a user needs."""
    with pytest.raises(SpecError) as caught:
        override(base(), assignment)
    assert message in str(caught.value)
