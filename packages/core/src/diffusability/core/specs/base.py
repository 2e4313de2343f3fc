"""The base of everything that is read from YAML."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, get_args

import attrs
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from diffusability.core.errors import PluginError, nearest
from diffusability.core.plugins import registry
from diffusability.core.plugins.contract_checks import checked_build
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.specs.files.contents import FileSet
from diffusability.core.specs.files.file_tree import read_tree
from diffusability.core.specs.synonyms import synonym


@attrs.frozen
class Incidental:
    """Marks a field that cannot change a result (logging, workers), so that it is not part of a stage's identity."""


@attrs.frozen
class Written:
    """Marks a field with a path to which something is written, so that what is there decides nothing."""


@attrs.frozen
class StageReference:
    """Marks a string field that names an earlier stage of one of these kinds."""

    kinds: tuple[str, ...]


@attrs.frozen
class LocalPath:
    """Marks a string field, or one of a list of strings, that may be a path on this machine: ``~`` is expanded."""


SpecPath = tuple[str | int, ...]


def fail(path: str | SpecPath, message: str, value: object, title: str = "spec") -> ValidationError:
    """A validation error at a key or a path below the model, to be raised inside a validator."""
    loc = (path,) if isinstance(path, str) else path
    text = message.replace("{", "{{").replace("}", "}}")
    details = InitErrorDetails(type=PydanticCustomError("spec", text), loc=loc, input=value)
    return ValidationError.from_exception_data(title, [details])


class Spec(BaseModel):
    """A frozen model that refuses unknown keys and names the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and not cls._is_open():
            known = list(cls.model_fields)
            unknown = [key for key in value if key not in known]
            if unknown:
                details = [
                    InitErrorDetails(
                        type=PydanticCustomError(
                            "unknown_key",
                            "unknown key {key}; {hint}known: {known}",
                            {
                                "key": repr(key),
                                "hint": synonym(key) or nearest(key, known),
                                "known": ", ".join(known),
                            },
                        ),
                        loc=(str(key),),
                        input=value[key],
                    )
                    for key in unknown
                ]
                raise ValidationError.from_exception_data(cls.__name__, details)
        return value

    @model_validator(mode="before")
    @classmethod
    def _expand_home(cls, value: Any) -> Any:
        """Writes out ``~`` and ``~user`` at the beginning of every path, whatever class the field belongs to."""
        if not isinstance(value, Mapping) or cls._is_open():
            return value
        return {name: at_home(item) if name in _paths_of(cls) else item for name, item in value.items()}

    @classmethod
    def _is_open(cls) -> bool:
        """True for a class that only delegates to the class of a ``kind``."""
        return False

    def walk(self) -> Iterator[tuple[SpecPath, "Spec"]]:
        """Yields this spec and all below it, each with its path."""
        yield (), self
        for name in type(self).model_fields:
            value = getattr(self, name)
            items = enumerate(value) if isinstance(value, list | tuple) else [(None, value)]
            for index, item in items:
                if isinstance(item, Spec):
                    here: SpecPath = (name,) if index is None else (name, index)
                    yield from (((*here, *path), spec) for path, spec in item.walk())

    def references(self) -> Iterator[tuple[SpecPath, str, StageReference]]:
        """Yields path, stage name and marker of each reference to another stage, here and below."""
        for path, spec in self.walk():
            for name, field in type(spec).model_fields.items():
                value = getattr(spec, name)
                for marker in field.metadata:
                    if isinstance(marker, StageReference) and isinstance(value, str):
                        yield (*path, name), value, marker

    #: What a recorded spec without one of these fields meant, where that is not the field's default: for fields that
    #: came later and changed what is done.
    meant_before: ClassVar[Mapping[str, Any]] = {}

    def identity(self) -> dict[str, Any]:
        """The fields that can change a result, as plain data."""
        fields = type(self).model_fields
        return {
            name: _identity_of(getattr(self, name))
            for name, field in fields.items()
            if not any(isinstance(marker, Incidental) for marker in field.metadata)
        }


@cache
def _paths_of(spec_class: type[BaseModel]) -> frozenset[str]:
    """Names of the fields that hold paths: by their type, or by the mark ``LocalPath``."""
    return frozenset(
        name
        for name, field in spec_class.model_fields.items()
        if _mentions_path(field.annotation) or any(isinstance(marker, LocalPath) for marker in field.metadata)
    )


def _mentions_path(annotation: Any) -> bool:
    return annotation is Path or any(_mentions_path(part) for part in get_args(annotation))


def at_home(value: Any) -> Any:
    """A path, or each of several, with ``~`` and ``~user`` at its beginning written out; other values as they are."""
    if isinstance(value, list | tuple):
        return type(value)(map(at_home, value))
    if isinstance(value, str) and value.removeprefix("file:").startswith("~"):
        return os.path.expanduser(value.removeprefix("file:"))
    if isinstance(value, Path) and str(value).startswith("~"):
        return Path(os.path.expanduser(value))
    return value


def _identity_of(value: object) -> Any:
    if isinstance(value, Spec):
        return value.identity()
    if isinstance(value, list | tuple):
        return [_identity_of(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str | dict) else str(value)


class KindedSpec(Spec):
    """A spec whose ``kind`` names the class that reads the rest of it.

    Validation delegates to that class, so that error paths stay exact.
    """

    kind: str
    noun: ClassVar[str]

    @classmethod
    def class_of(cls, kind: str) -> type[Any]:
        """The class of a kind. Raises PluginError for an unknown one."""
        raise PluginError(f"{cls.__name__} knows no kinds")

    @classmethod
    def _is_open(cls) -> bool:
        return "noun" in cls.__dict__

    @model_validator(mode="wrap")
    @classmethod
    def _delegate(cls, value: Any, handler: Callable[[Any], "KindedSpec"]) -> "KindedSpec":
        if not cls._is_open() or isinstance(value, cls):
            return handler(value)
        if not isinstance(value, Mapping):
            message = f"expected a mapping with a 'kind' (an installed {cls.noun}), got {value!r}"
            raise ValueError(message)  # noqa: TRY004 - pydantic reports ValueError
        kind = value.get("kind")
        if kind is None:
            raise fail("kind", f"missing 'kind': which {cls.noun} is meant?", value, cls.__name__)
        if not isinstance(kind, str):
            raise fail("kind", f"'kind' must be the name of a {cls.noun}, got {kind!r}", kind, cls.__name__)
        try:
            spec_class = cls.class_of(kind)
        except PluginError as error:
            raise fail("kind", str(error), kind, cls.__name__) from error
        made: KindedSpec = spec_class.model_validate(value)
        return made


def files_at(path: Path) -> FileSet:
    """A file, or all files below a folder, read whole. Raises DataError when a folder cannot be listed."""
    names = () if path.is_file() else tuple(read_tree(path, None).paths)
    return FileSet(root=path, names=names, whole=True)


class PluginSpec(KindedSpec):
    """Base of the spec classes that entry points name. Third parties subclass the ones in ``specs.components``."""

    group: ClassVar[str]
    #: What ``build`` makes, as ``"module:Class"``; imported when something is built, so that a spec needs no torch.
    builds: ClassVar[str | None] = None

    @classmethod
    def implementation(cls) -> Any:
        """The class that ``builds`` names, or a function that is called in place of its ``from_spec``.

        Raises:
            PluginError: ``builds`` is not set, or its module or the name in it cannot be imported.
        """
        if cls.builds is None:
            raise PluginError(f"{cls.__name__} must set builds = 'module:Class', or implement build()")
        return registry.imported(cls.builds, f"{cls.noun} {cls.__name__}")

    @checked_build
    def build(self, context: BuildContext) -> Any:
        """Makes what this spec describes, by ``Class.from_spec(spec, context)`` of the class that ``builds`` names."""
        made = self.implementation()
        build = getattr(made, "from_spec", made)  # a class, or a function in its place
        return build(self, context)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = checked_build(cls.__dict__["build"])  # type: ignore[method-assign]

    @classmethod
    def class_of(cls, kind: str) -> type[Any]:
        return registry.load(cls.group, kind, cls)

    def builds_untrained(self) -> bool:
        """Whether ``build`` reads no weights, or none where ``context.untrained`` is set. Must not import torch.

        What a spec costs is counted on networks that are built so; one that cannot be built so counts as unknown.
        """
        return True

    def check_inputs(self) -> None:
        """Looks, before anything starts, whether files and folders named here exist. Must not import torch.

        Raises:
            ValueError: with a sentence that says what is missing and what was expected.
        """

    def remarks(self, context: BuildContext) -> list[str]:
        """Sentences for ``dfz check``, such as values that follow from the data. Must not import torch."""
        return []

    def code(self) -> tuple[FileSet, ...]:
        """Source files whose code runs when this is built; none for installed kinds. Must not import torch."""
        return ()

    def files_read(self) -> dict[str, FileSet]:
        """Files that decide what is built, by the field that names them. Must not import torch.

        By default everything at a path in a field: a file, or all files of a folder. What is not there, and
        fields marked ``Written`` or ``Incidental``, do not count.

        Raises:
            DataError: a folder cannot be listed.
        """
        file_sets = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            marked = any(isinstance(marker, Written | Incidental) for marker in field.metadata)
            if isinstance(value, Path) and not marked and value.exists():
                file_sets[name] = files_at(value)
        return file_sets
