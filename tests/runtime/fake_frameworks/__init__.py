"""Packages with the names and shapes of frameworks that need an accelerator; tests put this folder on `sys.path`."""
