"""Moving averages of weights, in training and chosen after it."""
