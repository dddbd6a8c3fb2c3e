"""The models, and what travels with their weights: the Hub copies remote code side by side, so the folder is flat."""
