"""The legacy code bases' files: read safely, recognised, and mapped onto the models of this package."""
