"""The `hf-encoders` program: one file per command."""
