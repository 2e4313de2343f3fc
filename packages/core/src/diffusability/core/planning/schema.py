"""The JSON schema of spec files, with every installed plugin, for editors and for checks outside Python."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from diffusability.core.errors import PluginError
from diffusability.core.plugins import registry
from diffusability.core.specs.base import KindedSpec
from diffusability.core.specs.components import SPEC_BASES
from diffusability.core.specs.run import RunSpec
from diffusability.core.specs.stages import STAGE_KINDS, StageSpec
from diffusability.core.specs.table import TableSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> tuple[dict[str, Any], list[str]]:
    """The schema, and one line for each plugin that is left out because it is broken."""
    groups: dict[type[KindedSpec], list[type[KindedSpec]]] = {StageSpec: list(STAGE_KINDS.values())}
    broken = []
    for group, base in SPEC_BASES.items():
        groups[base] = []
        for kind in registry.kinds(group):
            try:
                groups[base].append(registry.load(group, kind, base))
            except PluginError as error:
                broken.append(str(error))
    models: list[type[BaseModel]] = [
        RunSpec,
        TableSpec,
        *groups,
        *(member for members in groups.values() for member in members),
    ]
    names, document = models_json_schema([(model, "validation") for model in models])
    definitions = document["$defs"]
    reference = {model: names[model, "validation"]["$ref"] for model in models}
    for family, members in groups.items():
        definitions[reference[family].rpartition("/")[2]] = {
            "title": family.__name__,
            "description": f"One of the installed kinds of {family.noun}.",
            **_one_of([reference[member] for member in members]),
        }
        for member in members:
            required = definitions[reference[member].rpartition("/")[2]].setdefault("required", [])
            if "kind" not in required:
                required.append("kind")
    run = definitions.pop(reference[RunSpec].rpartition("/")[2])
    run["properties"]["extends"] = {
        "type": "string",
        "description": "Another spec file, relative to this one, that this one is laid over.",
    }
    run["anyOf"] = [{"required": run.pop("required")}, {"required": ["extends"]}]  # what is required may be inherited
    run["properties"]["table"] = {"anyOf": [{"$ref": reference[TableSpec]}, {"type": "null"}]}
    run["properties"]["variants"] = {
        "type": "object",
        "description": "Changes laid over the spec, by the name of the variant. Keys may be dotted paths.",
        "additionalProperties": {"type": ["object", "null"]},
    }
    return {"$schema": DIALECT, **run, "title": "diffusability spec", "$defs": definitions}, broken


def _one_of(references: list[str]) -> dict[str, Any]:
    """One of these definitions; nothing at all when there are none."""
    return {"oneOf": [{"$ref": reference} for reference in references]} if references else {"not": {}}
