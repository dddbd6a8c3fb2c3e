"""The pictures that `hf-encoders evaluate --figures` writes, each beside its data as JSON."""
