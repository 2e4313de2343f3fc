"""The command ``dfz``. Nothing here imports torch before a run starts."""

import sys

from diffusability.core.errors import MissingPackageError
from diffusability.core.extras import require_extra


def main() -> None:
    """The entry point of ``dfz``; says which extra brings its libraries where they are not installed."""
    try:
        require_extra("cli", "the command dfz")
    except MissingPackageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    from diffusability.core.cli.app import main as run_command_line

    run_command_line()
