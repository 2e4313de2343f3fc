"""Figures of evaluators."""
