"""Opens what is embedded, searched, measured or trained on."""
