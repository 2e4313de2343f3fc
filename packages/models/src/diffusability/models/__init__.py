"""Autoencoders, denoisers, training objectives and samplers.

Specs name them by kind (``diffusability.models.specs``); importing this package does not import torch.
"""
