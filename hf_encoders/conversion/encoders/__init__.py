"""Encoders of known families → repos that transformers loads by itself, and back."""
