from pathlib import Path

import jsonschema
import pytest
import yaml

from diffusability.core.planning.schema import schema
from diffusability.core.plugins import registry

QUICKSTART = Path(__file__).resolve().parents[3] / "examples" / "quickstart.yaml"


@pytest.fixture(scope="module")
def validator():
    """A validator of the jsonschema library for our schema, itself checked against its dialect."""
    document, broken = schema()
    assert broken == []
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.fixture
def quickstart():
    """The example as plain data; PyYAML reads its numbers as we do, because all have a dot."""
    return yaml.safe_load(QUICKSTART.read_text())


def test_the_quickstart_is_valid(validator, quickstart):
    """Our schema, judged by a library that knows nothing of us."""
    assert [error.message for error in validator.iter_errors(quickstart)] == []


def test_every_installed_kind_is_in_the_schema(validator):
    """Each entry point's kind as a constant somewhere below $defs."""
    definitions = validator.schema["$defs"]
    constants = {
        definition["properties"]["kind"].get("const")
        for definition in definitions.values()
        if "kind" in definition.get("properties", {})
    }
    assert {plugin.kind for plugin in registry.installed()} <= constants


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["stages"]["finetune"]["regularizers"][0].update(weihgt=1),
        lambda spec: spec["stages"]["finetune"]["regularizers"][0].update(kind="kll"),
        lambda spec: spec["stages"]["pretrain"].pop("steps"),
        lambda spec: spec["stages"]["pretrain"].update(steps="many"),
        lambda spec: spec.pop("name"),
        lambda spec: spec["data"].pop("kind"),
    ],
)
def test_mistakes_are_invalid(validator, quickstart, change):
    """What an editor should underline."""
    change(quickstart)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(quickstart)
