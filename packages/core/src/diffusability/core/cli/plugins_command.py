"""``dfz plugins``."""

from rich.console import Console
from rich.table import Table

from diffusability.core import plugins
from diffusability.core.errors import PluginError
from diffusability.core.specs.components import SPEC_BASES


def show_plugins(group: str | None, check_imports: bool) -> None:
    """Prints the installed kinds; with ``check_imports``, imports each and fails when one is broken.

    Raises:
        PluginError: with ``check_imports``, naming every broken plugin.
    """
    found = plugins.installed(group)
    broken = plugins.failures(found, dict(SPEC_BASES)) if check_imports else {}
    table = Table()
    for column in ("group", "kind", "distribution", "version", *(["check"] if check_imports else [])):
        table.add_column(column)
    for plugin in found:
        state = [("[red]broken[/red]" if plugin in broken else "ok")] if check_imports else []
        table.add_row(plugin.group, plugin.kind, plugin.distribution, plugin.version, *state)
    Console().print(table)
    if broken:
        raise PluginError("\n".join(str(error) for error in broken.values()))
