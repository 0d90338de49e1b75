"""The HTTP face: routes, limits, the protocols that clients speak."""
