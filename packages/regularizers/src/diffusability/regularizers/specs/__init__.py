"""What YAML says of regularizers."""
