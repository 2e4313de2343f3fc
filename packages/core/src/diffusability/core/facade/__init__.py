"""What a notebook or a training loop of one's own calls: autoencoders by name, scores, samples."""
