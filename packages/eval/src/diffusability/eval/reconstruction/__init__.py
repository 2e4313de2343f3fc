"""Evaluators of reconstructions."""
