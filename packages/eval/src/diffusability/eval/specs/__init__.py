"""What YAML says of evaluators and feature extractors."""
