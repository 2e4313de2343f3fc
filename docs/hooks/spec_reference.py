"""Generates the pages ``reference/specs/*.md`` from the JSON schema of specs (``dfz schema``)."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from diffusability.core.planning.schema import schema
from diffusability.core.specs.components import SPEC_BASES

INTRODUCTION = """# The whole spec

Generated from `dfz schema`: every key, what it takes and its default. In words: [specs](../../specs.md).
"""


class Reference:
    """The schema, and the page on which each of its definitions stands."""

    def __init__(self) -> None:
        self.document, broken = schema()
        if broken:
            raise RuntimeError(f"broken plugins: {broken}")
        self.definitions: Mapping[str, Any] = self.document["$defs"]
        self.families = {base.__name__: group for group, base in SPEC_BASES.items()} | {"StageSpec": "stages"}
        self.page_of: dict[str, str] = {}
        for family, page in self.families.items():
            for member in self._members(family):
                self.page_of[member] = page
        for name in self.definitions:
            if name not in self.families:
                self.page_of.setdefault(name, "run")

    def _members(self, family: str) -> list[str]:
        return [entry["$ref"].rpartition("/")[2] for entry in self.definitions[family].get("oneOf", [])]

    def title(self, name: str) -> str:
        """A kind's name; of other definitions, the class's."""
        kind = self.definitions[name].get("properties", {}).get("kind", {})
        return str(kind.get("const", name))

    def link(self, name: str) -> str:
        """A link to a definition or to the page of a family."""
        if name in self.families:
            return f"[{self.families[name]}]({self.families[name]}.md)"
        return f"[{self.title(name)}]({self.page_of[name]}.md#{self.title(name).lower()})"

    def type_of(self, field: Mapping[str, Any]) -> str:
        """What a field takes, in a few words."""
        alternatives = next((field[key] for key in ("anyOf", "oneOf", "allOf") if key in field), None)
        if "$ref" in field:
            return self.link(field["$ref"].rpartition("/")[2])
        if alternatives is not None:
            kinds = [self.type_of(entry) for entry in alternatives if entry.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
        if "const" in field or "enum" in field:
            return " or ".join(f"`{json.dumps(value)}`" for value in field.get("enum", [field.get("const")]))
        if field.get("type") == "array":
            return self._list_of(field)
        return self._mapping_of(field) if field.get("type") == "object" else _scalar(field)

    def _list_of(self, field: Mapping[str, Any]) -> str:
        if "prefixItems" in field:
            return "[" + ", ".join(self.type_of(item) for item in field["prefixItems"]) + "]"
        return f"list of {self.type_of(field.get('items', {}))}"

    def _mapping_of(self, field: Mapping[str, Any]) -> str:
        values = field.get("additionalProperties")
        return f"mapping to {self.type_of(values)}" if isinstance(values, Mapping) else "mapping"

    def fields(self, definition: Mapping[str, Any]) -> Iterator[str]:
        """The table of a definition's fields."""
        required = definition.get("required", [])
        properties = {name: field for name, field in definition.get("properties", {}).items() if name != "kind"}
        if not properties:
            yield "No fields.\n"
            return
        yield "| field | takes | default | meaning |\n| --- | --- | --- | --- |"
        for name, field in properties.items():
            default = "required" if name in required else _default(field)
            meaning = field.get("description", "").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
            yield f"| `{name}` | {self.type_of(field)} | {default} | {meaning} |"
        yield ""

    def section(self, name: str) -> Iterator[str]:
        """A heading, the summary and the fields of a definition."""
        definition = self.definitions[name]
        yield f"## {self.title(name)}\n"
        yield " ".join(definition.get("description", "").split()).replace("``", "`").replace("<", "&lt;") + "\n"
        if definition.get("type") == "object" or "properties" in definition:
            yield from self.fields(definition)
        else:
            yield f"{self.type_of(definition)}\n"

    def pages(self) -> Iterator[tuple[str, str]]:
        """Name and text of each page."""
        text = [INTRODUCTION, *self.fields(self.document)]
        for name, page in sorted(self.page_of.items()):
            if page == "run":
                text += self.section(name)
        yield "run", "\n".join(text)
        for family, page in self.families.items():
            text = [f"# {page.capitalize()}\n", "Generated from `dfz schema`, with all that is installed here.\n"]
            for name in self._members(family):
                text += self.section(name)
            yield page, "\n".join(text)


def _scalar(field: Mapping[str, Any]) -> str:
    """The type of a number, text or truth value; of several, all but null."""
    kinds = field.get("type", "any value")
    names = [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null"]
    return " or ".join(names) + _bounds(field)


def _bounds(field: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field and abs(field[key]) < 2**53]
    return " " + ", ".join(bounds).replace("<", "&lt;") if bounds else ""


def _default(field: Mapping[str, Any]) -> str:
    if "default" not in field:
        return ""
    value = field["default"]
    return "none" if value is None else f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages to the site."""
    for name, text in Reference().pages():
        files.append(File.generated(config, f"reference/specs/{name}.md", content=text))
    return files
