"""Files of weights, read without executing anything in them. Knows no network."""
