"""The `hf-encoders` command: one file for each of its commands."""
