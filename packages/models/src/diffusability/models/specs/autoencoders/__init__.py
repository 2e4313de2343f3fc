"""What YAML says of autoencoders."""
