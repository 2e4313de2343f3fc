"""Checkpoints as pieces of named tensors."""
