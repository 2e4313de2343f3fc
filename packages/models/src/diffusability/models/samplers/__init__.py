"""Samplers of the diffusion ODE and SDE."""
