"""A graph of actions to outputs: store, cache, sandbox, scheduler."""
