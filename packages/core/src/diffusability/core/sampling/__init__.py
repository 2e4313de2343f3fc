"""Sampling from trained models, with and without a run around it."""
