"""Packages with the names and the shapes of frameworks that need an accelerator; tests put this folder on `sys.path`."""
