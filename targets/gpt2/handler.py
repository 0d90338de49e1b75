"""The service of //gpt2: text in, text out, as the base server does it."""

from forge_runtime import BaseServer


class Handler(BaseServer):
    """Overrides nothing: hooks such as `preprocess` and `postprocess` go here."""
