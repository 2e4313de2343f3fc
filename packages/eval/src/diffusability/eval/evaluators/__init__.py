"""The evaluators, one in each module."""
