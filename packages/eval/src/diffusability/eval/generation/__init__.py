"""Evaluators of generated images: distances between sets."""
