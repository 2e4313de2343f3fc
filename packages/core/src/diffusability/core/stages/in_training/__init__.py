"""What is seen of a stage while it trains."""
