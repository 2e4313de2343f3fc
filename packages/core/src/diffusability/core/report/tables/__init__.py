"""TODO: docstring of the folder."""
