"""The service of //tiny_vision: a picture or a zip of pictures in, the five likeliest classes out."""

from forge_runtime.vision import ImageClassifier


class Handler(ImageClassifier):
    """Takes pixels from 0 to 1, which is the default; `mean`, `deviation` and hooks go here."""
