"""The interface that legacy code calls."""
