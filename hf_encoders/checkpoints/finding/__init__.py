"""Finds the weights in what a file holds: at any depth, below any prefix, and which of several."""
