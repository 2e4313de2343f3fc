"""Sums and tables that grow with batches, and spreads of what they give."""
