"""The training runs and what they are made of."""
