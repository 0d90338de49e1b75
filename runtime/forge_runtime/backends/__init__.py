"""One module per inference framework, imported by name only when configured."""
