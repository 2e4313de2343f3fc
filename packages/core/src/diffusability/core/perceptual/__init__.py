"""Perceptual distances by fixed networks: LPIPS and ST-LPIPS, for losses and for metrics."""
