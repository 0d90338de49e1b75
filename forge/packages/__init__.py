"""Debian packages and wheels: locks, sources, downloads, trees."""
