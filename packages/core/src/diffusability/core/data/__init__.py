"""Datasets: images from folders or from installed packages, and cached latents."""
