"""Base classes of plugins, and what passes between them."""
