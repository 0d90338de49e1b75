"""Sends requests to a model's server, alone or as a load, and says how it did."""
