"""``python -m diffusability.core.cli`` is ``dfz``."""

from diffusability.core.cli import main

if __name__ == "__main__":
    main()
