"""A Python file that a spec names, such as ``my_autoencoder.py:build``, looked at without running it. Free of torch."""

import ast
import inspect
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

_FORM = "expected FILE.py:NAME, such as my_autoencoder.py:build"
#: What a target is given besides its options, where it has parameters of these names.
OFFERED = ("context", "split")


@attrs.frozen
class Target:
    """A function or class in a file.

    Attributes:
        path: the file.
        name: the function or class.
    """

    path: Path
    name: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.name}"


def parse_target(target: str) -> Target:
    """Splits ``FILE.py:NAME``. Raises ValueError for anything else."""
    file, _, name = target.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or "." in path.stem or not name.isidentifier():
        raise ValueError(f"target {target!r} does not name code; {_FORM}")
    return Target(path, name)


def sources_of(path: Path) -> tuple[str, ...]:
    """The file and all modules beside it that it imports, directly or not: paths relative to its folder, sorted.

    Found by reading import statements, wherever they stand. A file that is not there, or is not Python, counts alone.
    """
    folder = path.parent
    sources: set[str] = set()
    left = [path.name]
    while left:
        name = left.pop()
        if name in sources:
            continue
        sources.add(name)
        try:
            tree = ast.parse((folder / name).read_bytes())
        except (SyntaxError, ValueError, OSError):  # check_target says so of the file itself
            continue
        left += [file for module in _imported(tree, Path(name)) for file in _files_of(module, folder)]
    return tuple(sorted(sources))


def _imported(tree: ast.AST, name: Path) -> Iterator[tuple[str, ...]]:
    """Dotted names that a module imports, in parts, as seen from the folder."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = name.parent.parts
            base = parents[: len(parents) - node.level + 1] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            yield module
            yield from ((*module, alias.name) for alias in node.names)


def _files_of(module: tuple[str, ...], folder: Path) -> Iterator[str]:
    """Files below the folder that are run when a module is imported: those of its packages, and its own."""
    if module and module[0] in sys.stdlib_module_names and not (folder / module[0]).is_dir():
        return
    for length in range(1, len(module) + 1):
        place = Path(*module[:length])
        for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if (folder / file).is_file():
                yield file.as_posix()


def check_target(target: Target, options: Mapping[str, Any]) -> None:
    """Looks, without running it, whether the file defines the name and whether that can be called with the options.

    Raises:
        ValueError: with a sentence that says what is missing or does not fit, and where.
    """
    if not target.path.is_file():
        raise ValueError(f"there is no file {str(target.path)!r}; {_FORM}")
    try:
        tree = ast.parse(target.path.read_bytes(), str(target.path))
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ValueError(f"{target.path!s}{line} is not valid Python: {message}") from None
    defined = dict(_defined(tree.body))
    if target.name not in defined:
        if "*" in defined:  # of another module; known once it is imported
            return
        callables = [name for name, node in defined.items() if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        raise ValueError(
            f"{str(target.path)!r} defines no {target.name!r}; it defines {', '.join(callables) or 'nothing to call'}"
        )
    signature = _signature(defined[target.name])
    if signature is not None:
        fault = options_fault(signature, options)
        if fault is not None:
            place = getattr(defined[target.name], "lineno", None) or 1
            raise ValueError(f"{target.name}{signature} {fault} ({target.path}:{place})")


def options_fault(signature: inspect.Signature, options: Mapping[str, Any]) -> str | None:
    """Why something of that signature cannot be called with the options, or None."""
    extra = dict.fromkeys(offered(signature, options))
    try:
        signature.bind(**{**options, **extra})
    except TypeError as error:
        return f"cannot be called with options {', '.join(options) or '(none)'}: {error}"
    return None


def offered(signature: inspect.Signature, options: Collection[str]) -> list[str]:
    """What is passed besides the options: ``context`` and ``split``, where there are parameters of these names."""
    return [name for name in OFFERED if name in signature.parameters and name not in options]


def _defined(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """What a module binds at its top, also inside ``if`` and ``try``."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                yield node.name, node
            case ast.Import() | ast.ImportFrom():
                yield from ((alias.asname or alias.name.partition(".")[0], alias) for alias in node.names)
            case ast.Assign() | ast.AnnAssign():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                yield from (
                    (name.id, node) for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
                )
            case ast.If() | ast.Try() | ast.With():
                parts = [node.body, getattr(node, "orelse", []), getattr(node, "finalbody", [])]
                parts += [handler.body for handler in getattr(node, "handlers", [])]
                yield from (definition for part in parts for definition in _defined(part))


def _signature(node: ast.AST) -> inspect.Signature | None:
    """How a function or class is called, as far as its own definition tells; None where a decorator or base decides."""
    if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.decorator_list:
        return None
    if isinstance(node, ast.FunctionDef):
        return inspect.Signature(_parameters(node.args))
    init = next(
        (
            statement
            for statement in node.body
            if isinstance(statement, ast.FunctionDef) and statement.name == "__init__"
        ),
        None,
    )
    if init is not None:
        return inspect.Signature(_parameters(init.args)[1:])
    return None if node.bases or node.keywords else inspect.Signature()


def _parameters(arguments: ast.arguments) -> list[inspect.Parameter]:
    kind = inspect.Parameter
    positional: list[tuple[ast.arg, Any]] = [(argument, kind.POSITIONAL_ONLY) for argument in arguments.posonlyargs]
    positional += [(argument, kind.POSITIONAL_OR_KEYWORD) for argument in arguments.args]
    without = len(positional) - len(arguments.defaults)
    defaults: list[Any] = [kind.empty] * without + [_Shown(ast.unparse(value)) for value in arguments.defaults]
    parameters = [
        kind(argument.arg, how, default=default) for (argument, how), default in zip(positional, defaults, strict=True)
    ]
    if arguments.vararg is not None:
        parameters.append(kind(arguments.vararg.arg, kind.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        shown = kind.empty if default is None else _Shown(ast.unparse(default))
        parameters.append(kind(argument.arg, kind.KEYWORD_ONLY, default=shown))
    if arguments.kwarg is not None:
        parameters.append(kind(arguments.kwarg.arg, kind.VAR_KEYWORD))
    return parameters


@attrs.frozen(repr=False)
class _Shown:
    """A default as it is written, for messages."""

    text: str

    def __repr__(self) -> str:
        return self.text
