"""The command ``dfz``. Nothing here imports torch before a run starts."""

from diffusability.core.cli.app import main

__all__ = ["main"]
