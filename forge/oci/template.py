"""Dockerfiles out of templates. What goes in is a word of a known alphabet or JSON: nothing can end its line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from forge.core.errors import ActionFailed

_WORD = re.compile(r"[A-Za-z0-9_./:@+-]+")


def render(template: str, values: Mapping[str, object]) -> str:
    """Fill a template in; ActionFailed for a value that it does not know, or that no Dockerfile can hold."""
    # Only here: whoever builds no image by buildx need not load it.
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    environment.filters |= {"word": word, "words": words}
    try:
        return environment.from_string(template).render(values)
    except TemplateError as error:
        raise ActionFailed(f"The Dockerfile's template does not work out: {error}") from error


def word(value: str) -> str:
    """Pass a word that means nothing else to a Dockerfile."""
    if not _WORD.fullmatch(value):
        hint = "Letters, digits and `_./:@+-` can; the assembler `embedded` takes any text"
        raise ActionFailed(f"{json.dumps(value)} cannot be a word of a Dockerfile", hint=hint)
    return value


def words(values: Sequence[str]) -> str:
    """Write the exec form: JSON, in which a line break, a quote and a `$` are characters like others."""
    return json.dumps(list(values))
