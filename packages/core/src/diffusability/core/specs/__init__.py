"""What a YAML spec may say, how it is read, checked and planned. Nothing here imports torch."""
