"""A run's folder on disk: its writer and its reader."""
