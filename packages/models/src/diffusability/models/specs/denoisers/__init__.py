"""What YAML says of denoisers."""
