"""``dfz plugins`` and ``dfz new-plugin``."""

from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from diffusability.core.errors import PluginError
from diffusability.core.plugins import contract_checks, registry
from diffusability.core.plugins.registry import Plugin
from diffusability.core.plugins.summaries import summary
from diffusability.core.plugins.template import write_plugin


def show_plugins(group: str | None, check_imports: bool) -> None:
    """Prints the installed kinds with their summaries, below their group, distribution and version.

    Nothing is imported: summaries are read from the source. With ``check_imports`` each kind is imported.

    Raises:
        PluginError: with ``check_imports``, naming every broken plugin.
    """
    plugins = registry.installed(group)
    broken: dict[Plugin, PluginError] = {}
    if check_imports:
        from diffusability.core.specs.components import SPEC_BASES

        broken = contract_checks.failures(plugins, dict(SPEC_BASES))
    console = Console(highlight=False)
    width = max((len(plugin.kind) for plugin in plugins), default=0)
    order = list(registry.GROUPS)
    plugins.sort(key=lambda plugin: (order.index(plugin.group), plugin.distribution, plugin.kind))
    for (name, distribution, version), members in groupby(plugins, lambda p: (p.group, p.distribution, p.version)):
        console.print(f"[bold]{name}[/bold] of {distribution} {version}", soft_wrap=True)
        console.print(_table(list(members), broken, check_imports, width))
    if not plugins:
        console.print("no plugins are installed" + (f" in group {group!r}" if group else ""))
    if broken:
        raise PluginError("\n".join(str(error) for error in broken.values()))


def _table(members: list[Plugin], broken: dict[Plugin, PluginError], check_imports: bool, width: int) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(no_wrap=True, min_width=width)
    if check_imports:
        table.add_column(no_wrap=True, min_width=len("broken"))
    table.add_column(overflow="fold")
    for plugin in members:
        state = [("[red]broken[/red]" if plugin in broken else "ok")] if check_imports else []
        table.add_row(plugin.kind, *state, summary(plugin))
    return table


def new_plugin(name: str, kind: str, parent: Path) -> None:
    """Writes a plugin package and says what to do next."""
    folder = write_plugin(name, kind, parent)
    console = Console(soft_wrap=True, highlight=False)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        console.print(str(path), markup=False)
    console.print("next:", f"cd {folder}; pip install -e '.[test]'; pytest", markup=False)
