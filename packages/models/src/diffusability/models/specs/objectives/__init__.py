"""What YAML says of objectives."""
