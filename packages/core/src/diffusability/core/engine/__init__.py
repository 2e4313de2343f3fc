"""Training on DeepSpeed: one task, deterministic batches, checkpoints that are whole or absent."""
