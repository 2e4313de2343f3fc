"""Trackers of experiments. Their libraries are optional extras of this distribution."""
