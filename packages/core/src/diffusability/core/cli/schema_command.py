"""``dfz schema``."""

import json
from pathlib import Path

from rich.console import Console

from diffusability.core.planning.schema import schema


def show_schema(to: Path | None) -> None:
    """Prints the JSON schema of specs, or writes it to a file; broken plugins are left out and named."""
    document, broken = schema()
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    if to is None:
        print(text, end="")
    else:
        to.write_text(text)
    for sentence in broken:
        Console(stderr=True).print(f"left out: {sentence}", markup=False, highlight=False)
