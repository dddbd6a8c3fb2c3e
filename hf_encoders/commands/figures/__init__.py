"""The pictures that commands draw: contact sheets, and what `hf-encoders evaluate --figures` writes with its data."""
