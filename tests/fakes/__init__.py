"""Fakes that tests pass in where the product takes a protocol."""
