"""Reads YAML and remembers where each value stands, so that errors can point at it."""

import copy
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import attrs
import yaml

from diffusability.core.errors import Problem, SpecError
from diffusability.core.specs.base import SpecPath


@attrs.frozen
class Mark:
    """A place in a file, counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class _Loader(yaml.SafeLoader):
    """YAML with the number syntax of YAML 1.2: ``1e-6`` is a number; ``on``, ``no`` and dates are words."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*)?\.?[0-9]+(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+\.|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node).replace("_", ""))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


@attrs.define
class Source:
    """Plain data with the place of every value.

    Attributes:
        data: mappings, lists and scalars.
        marks: the place of each path; the key's place for a mapping's entry.
        name: what to call it in messages.
    """

    data: Any
    marks: dict[SpecPath, Mark]
    name: str

    def locate(self, path: SpecPath) -> str:
        """The place of the value at ``path``, or of the nearest value around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.marks:
                return str(self.marks[path[:length]])
        return self.name

    def copy(self) -> "Source":
        """An independent copy."""
        return Source(copy.deepcopy(self.data), dict(self.marks), self.name)

    def without(self, key: str) -> "Source":
        """A copy that lacks one key of the top mapping."""
        data = {name: copy.deepcopy(value) for name, value in self.data.items() if name != key}
        return Source(data, {path: mark for path, mark in self.marks.items() if path[:1] != (key,)}, self.name)

    def sub(self, path: SpecPath) -> "Source":
        """The part below ``path``, with its marks."""
        data = self.data
        for step in path:
            data = data[step]
        marks = {key[len(path) :]: mark for key, mark in self.marks.items() if key[: len(path)] == path}
        return Source(data, marks, self.name)


def read_source(path: Path) -> Source:
    """Reads a YAML file whose top is a mapping.

    Raises:
        SpecError: the file is missing, is not YAML, or repeats a key. Names the line and column.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"there is no spec file {str(path)!r}") from None
    except IsADirectoryError:
        raise SpecError(f"{str(path)!r} is a folder; expected a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{str(path)!r} cannot be read as text: {error}") from None
    source = parse_source(text, path.name)
    if not isinstance(source.data, dict):
        found = type(source.data).__name__ if source.data is not None else "nothing"
        raise SpecError([Problem(f"expected a mapping with 'name' and 'stages', found {found}", location=path.name)])
    return source


def parse_source(text: str, name: str) -> Source:
    """Parses YAML text; ``name`` stands for the file in messages."""
    loader = _Loader(text)
    loader.name = name
    try:
        node = loader.get_single_node()
        marks: dict[SpecPath, Mark] = {}
        data = _convert(loader, node, (), marks, name, ()) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise SpecError([Problem(f"not valid YAML: {error.problem or error.context}", location=where)]) from None
    except yaml.YAMLError as error:
        raise SpecError([Problem(f"not valid YAML: {error}", location=name)]) from None
    finally:
        loader.dispose()
    return Source(data, marks, name)


def _convert(
    loader: _Loader, node: yaml.Node, path: SpecPath, marks: dict[SpecPath, Mark], name: str, parents: Sequence[int]
) -> Any:
    marks.setdefault(path, Mark(name, node.start_mark.line + 1, node.start_mark.column + 1))
    if id(node) in parents:
        raise SpecError([Problem("an alias contains itself", location=str(marks[path]))])
    parents = (*parents, id(node))
    if isinstance(node, yaml.SequenceNode):
        return [_convert(loader, item, (*path, i), marks, name, parents) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        own = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        loader.flatten_mapping(node)  # resolves merge keys; what is written here wins over what is merged in
        result: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            mark = Mark(name, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                raise SpecError([Problem("a key must be a word", location=str(mark))])
            key = str(key_node.value)
            if key in result and own.count(key) > 1:
                raise SpecError([Problem(f"key {key!r} is given twice", location=str(mark))])
            marks[*path, key] = mark
            result[key] = _convert(loader, value_node, (*path, key), marks, name, parents)
        return result
    return loader.construct_object(node, deep=True)
