"""Trained models leave a run: in the layout that others read, with a model card. Dispatches on the model's format."""
