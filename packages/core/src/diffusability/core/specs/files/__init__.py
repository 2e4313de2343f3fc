"""Files that specs name: what they hold, trees of them, and what a saved model carries."""
