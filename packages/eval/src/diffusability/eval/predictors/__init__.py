"""Properties of latents that predict how well they can be diffused: pure functions, one property in each module."""
