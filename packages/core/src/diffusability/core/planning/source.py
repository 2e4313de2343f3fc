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
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*)?\.?[0-9]+(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+\.|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 reads as something else, such as ``no`` and the digest ``6e865495``."""


for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])


def as_yaml(data: Any, *, allow_unicode: bool = True) -> str:
    """Plain data as YAML that ``read_source`` and readers of YAML 1.1 read back as it is, keys in their order."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=allow_unicode)
    return text


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
        text = _decoded(path.read_bytes())
    except FileNotFoundError:
        raise SpecError(f"there is no spec file {str(path)!r}") from None
    except IsADirectoryError:
        raise SpecError(f"{str(path)!r} is a folder; expected a YAML file") from None
    except (OSError, ValueError) as error:
        raise SpecError(f"{str(path)!r} cannot be read as text: {error}") from None
    source = parse_source(text, path.name)
    if not isinstance(source.data, dict):
        actual = type(source.data).__name__ if source.data is not None else "nothing"
        raise SpecError([Problem(f"expected a mapping with 'name' and 'stages', found {actual}", location=path.name)])
    return source


def _decoded(content: bytes) -> str:
    """YAML is UTF-8, or UTF-16 with a byte order mark, as some editors on Windows write it."""
    return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")


def parse_source(text: str, name: str) -> Source:
    """Parses YAML text; ``name`` stands for the file in messages.

    Raises:
        SpecError: it is not YAML, repeats a key, or an alias contains itself. Names the line and column.
    """
    loader = None
    try:
        loader = _Loader(text)
        loader.name = name
        node = loader.get_single_node()
        reader = _NodeReader(loader, name)
        data = reader.read(node, (), ()) if node is not None else None
    except yaml.reader.ReaderError as error:
        raise SpecError([_unprintable(text, error, name)]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise SpecError([Problem(f"not valid YAML: {error.problem or error.context}", location=where)]) from None
    except yaml.YAMLError as error:
        raise SpecError([Problem(f"not valid YAML: {error}", location=name)]) from None
    except RecursionError:
        raise SpecError([Problem("not valid YAML: brackets or lists are nested too deeply", location=name)]) from None
    finally:
        if loader is not None:
            loader.dispose()
    return Source(data, reader.marks, name)


def _unprintable(text: str, error: yaml.reader.ReaderError, name: str) -> Problem:
    """Says which character YAML does not allow, and where."""
    before = text[: error.position]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    code = error.character if isinstance(error.character, int) else ord(error.character)
    hint = "remove it, or write it as an escape in double quotes"
    if 0x80 <= code <= 0x9F and "\xc2" <= before[-1:] <= "\xf4":  # what a lead byte of UTF-8 becomes
        hint = "the text seems to have been encoded as UTF-8 twice; save it as UTF-8 once"
    return Problem(f"not valid YAML: control character U+{code:04X}", location=f"{name}:{line}:{column}", hint=hint)


#: Values of a file, aliases counted each time: aliases of aliases can stand for more than fits into memory.
_MOST_VALUES = 20_000
_MERGE = "tag:yaml.org,2002:merge"
_Entry = tuple[yaml.Node, yaml.Node]


class _NodeReader:
    """Turns nodes into plain data and notes their places. Leaves the nodes as they are: an alias reads one again."""

    def __init__(self, loader: _Loader, name: str) -> None:
        self.loader = loader
        self.name = name
        self.marks: dict[SpecPath, Mark] = {}
        self.num_values = 0
        self._entries_of: dict[int, list[_Entry]] = {}

    def read(self, node: yaml.Node, path: SpecPath, parents: Sequence[int]) -> Any:
        """The data of a node. Raises SpecError with the place of what is wrong."""
        self.marks.setdefault(path, self._mark(node))
        self.num_values += 1
        if self.num_values > _MOST_VALUES:
            raise self._error(node, f"aliases make this file hold more than {_MOST_VALUES:,} values")
        if id(node) in parents:
            raise SpecError([Problem("an alias contains itself", location=str(self.marks[path]))])
        parents = (*parents, id(node))
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index), parents) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            result: dict[Hashable, Any] = {}
            for key_node, value_node in self._entries(node, ()):
                key = str(key_node.value)
                self.marks[*path, key] = self._mark(key_node)
                result[key] = self.read(value_node, (*path, key), parents)
            return result
        return self._scalar(node)

    def _entries(self, node: yaml.MappingNode, merging: Sequence[int]) -> list[_Entry]:
        """The entries of a mapping, those merged in by ``<<`` first; what is written here wins over what is merged."""
        if id(node) in self._entries_of:
            return self._entries_of[id(node)]
        if id(node) in merging:
            raise self._error(node, "an alias contains itself")
        merging = (*merging, id(node))
        merged: dict[str, _Entry] = {}
        own: dict[str, _Entry] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(key_node, "a key must be a word")
            key = str(key_node.value)
            if key_node.tag == _MERGE:
                for base in self._bases(value_node):
                    for entry in self._entries(base, merging):
                        merged.setdefault(str(entry[0].value), entry)  # of several bases, the first one wins
            elif key in own:
                raise self._error(key_node, f"key {key!r} is given twice")
            else:
                own[key] = (key_node, value_node)
        self._entries_of[id(node)] = list((merged | own).values())
        return self._entries_of[id(node)]

    def _bases(self, node: yaml.Node) -> list[yaml.MappingNode]:
        bases = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for base in bases:
            if not isinstance(base, yaml.MappingNode):
                raise self._error(base, "'<<' merges a mapping or a list of mappings, such as '<<: *name'")
        return list(bases)

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            value = self.loader.construct_object(node, deep=True)
        except yaml.YAMLError:
            raise
        except Exception:  # noqa: BLE001 - constructors raise what their types do: ValueError, KeyError, OverflowError
            kind = node.tag.rpartition(":")[2]
            raise self._error(node, f"not valid YAML: {str(node.value)[:40]!r} is not a valid {kind}") from None
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            try:  # JSON writes what lies beyond U+FFFF as a pair
                value = value.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                raise self._error(node, f"not valid YAML: {value!r} holds half of a surrogate pair") from None
        return value

    def _mark(self, node: yaml.Node) -> Mark:
        return Mark(self.name, node.start_mark.line + 1, node.start_mark.column + 1)

    def _error(self, node: yaml.Node, message: str) -> SpecError:
        return SpecError([Problem(message, location=str(self._mark(node)))])
