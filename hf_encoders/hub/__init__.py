"""The Hub: pushes, the code that travels with the weights, and model cards."""
