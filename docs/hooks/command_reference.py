"""Generates the page ``reference/commands.md`` from the commands of ``dfz``."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from diffusability.core.cli.app import app

INTRODUCTION = """# Commands

Generated from the commands of `dfz` itself; `dfz COMMAND --help` prints the same. Exit statuses are explained under
[specs](../specs.md#running-again).
"""


def _text(help_text: str | None) -> str:
    """Help as one paragraph that is safe in a cell of a table."""
    return re.sub(r"\s+", " ", help_text or "").strip().replace("|", "\\|").replace("<", "&lt;")


def _default(parameter: Any) -> str:
    value = parameter.default
    plain = isinstance(value, str | int | float | Path) and not isinstance(value, bool)
    return f"`{value}`" if plain and not parameter.required else ""


def _names(parameter: Any) -> str:
    """How a parameter is written on the command line."""
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name.upper()).replace('|', '/')}`"
    takes = "" if parameter.is_flag else f" {(parameter.metavar or parameter.name).upper()}"
    return ", ".join(f"`{name}{takes}`".replace("|", "/") for name in (*parameter.opts, *parameter.secondary_opts))


def _shown(parameters: Any) -> list[Any]:
    return [each for each in parameters if not getattr(each, "hidden", False) and each.name != "help"]


def _command(name: str, command: Any, group_context: Any) -> Iterator[str]:
    """A heading, the summary, the usage and the table of a command."""
    context = command.make_context(name, [], parent=group_context, resilient_parsing=True)
    yield f"## dfz {name}\n"
    yield f"{_text(command.help)}\n"
    yield f"```text\ndfz {name} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    yield "| argument or option | default | what it does |\n| --- | --- | --- |"
    for parameter in _shown(command.params):
        required = " (required)" if parameter.required and parameter.param_type_name == "option" else ""
        yield f"| {_names(parameter)}{required} | {_default(parameter)} | {_text(parameter.help)} |"
    yield ""


def page() -> str:
    """The whole page, in the order of ``dfz --help``."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("dfz", [], resilient_parsing=True)
    blocks = [INTRODUCTION]
    for name in group.list_commands(context):
        if not group.commands[name].hidden:
            blocks += _command(name, group.commands[name], context)
    blocks.append("## Options before the command\n\n| option | what it does |\n| --- | --- |")
    blocks += [f"| {_names(option)} | {_text(option.help)} |" for option in _shown(group.params)]
    return "\n".join(blocks) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page to the site."""
    files.append(File.generated(config, "reference/commands.md", content=page()))
    return files
