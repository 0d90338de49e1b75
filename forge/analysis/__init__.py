"""A graph of targets to a graph of actions: pure."""
