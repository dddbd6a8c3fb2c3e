"""Legacy checkpoints to Hub repos and back, each with a proof that the numbers are the same."""
