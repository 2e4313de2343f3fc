"""What a spec costs before it runs: operations and memory, counted on tensors that have a shape and no content."""
