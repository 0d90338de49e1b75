"""Values of the build: no I/O, no clock, no environment."""
