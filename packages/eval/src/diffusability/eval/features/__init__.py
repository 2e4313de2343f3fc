"""Feature extractors, one in each module, next to its spec."""
