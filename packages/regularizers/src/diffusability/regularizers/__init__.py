"""Regularizers that make the latents of an autoencoder easier to diffuse.

``specs`` holds what a YAML file configures and needs no torch; each other module holds one regularizer.
"""
