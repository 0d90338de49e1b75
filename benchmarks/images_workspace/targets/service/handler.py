"""The classifier; what is edited is the edition, which each answer tells."""

from typing import Any

from forge_runtime.vision import ImageClassifier, Pictures

EDITION = 0


class Handler(ImageClassifier):
    """Says beside the classes which edition of itself answers."""

    def postprocess(self, request: Pictures, results: Any) -> object:
        """Add the edition."""
        return {"edition": EDITION, "classes": super().postprocess(request, results)}
