"""Representation autoencoders (Zheng et al. 2025)."""
