"""The parts of a run of the multimodal encoder."""
