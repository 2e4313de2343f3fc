"""An adversarial loss for autoencoders: a patch discriminator with an engine of its own."""
