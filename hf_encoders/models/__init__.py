"""What travels with the weights: as remote code the Hub copies these files side by side, so they are flat."""
