"""Evaluators of autoencoders and of latent diffusion models.

``specs`` holds what a YAML file configures and needs no torch; ``evaluators`` holds the classes that stream over
batches; every other module holds the maths of one measure, as functions on tensors.
"""
