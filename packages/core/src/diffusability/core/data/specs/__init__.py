"""What YAML says of datasets."""
