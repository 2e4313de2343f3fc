"""What YAML says of feature extractors."""
