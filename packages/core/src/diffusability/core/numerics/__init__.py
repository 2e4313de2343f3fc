"""Maths that several packages need: DCT, resampling, randomness, seeds, precision."""
