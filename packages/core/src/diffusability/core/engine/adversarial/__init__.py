"""The adversarial loss: a discriminator in an engine of its own."""
