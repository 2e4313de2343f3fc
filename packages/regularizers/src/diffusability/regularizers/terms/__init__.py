"""The loss terms of regularizers."""
