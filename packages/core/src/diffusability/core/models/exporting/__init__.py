"""Trained models in the layouts of other libraries, with model cards."""
