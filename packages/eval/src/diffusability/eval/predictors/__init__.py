"""Properties of latents that foretell how well they can be diffused, as pure functions: one property a module."""
