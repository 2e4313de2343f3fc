"""``dfz new-plugin``."""

from pathlib import Path

from rich.console import Console

from diffusability.core.plugins.template import write_plugin


def new_plugin(name: str, kind: str, parent: Path) -> None:
    """Writes a plugin package and says what to do next."""
    folder = write_plugin(name, kind, parent)
    console = Console(soft_wrap=True, highlight=False)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        console.print(str(path), markup=False)
    console.print("next:", f"cd {folder}; pip install -e '.[test]'; pytest", markup=False)
