"""The parts of a run of the depth autoencoder."""
