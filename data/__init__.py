"""Questions: the built-in fact set, loaders and splits."""
