"""What YAML says of the models of this package."""
