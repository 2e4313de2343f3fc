"""Evaluators of spectra: of latents, of images, of a denoiser's errors."""
